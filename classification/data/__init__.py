"""Images with classes, in the layouts that people have: one file for each layout, and what they share."""

from classification.data.cifar import CifarImages
from classification.data.config import prepare_config
from classification.data.folder import ImageFolder, class_folders, list_samples
from classification.data.hub import HubImages
from classification.data.ilsvrc import IlsvrcImages
from classification.data.images import LabelledImages, SplitImages
from classification.data.shards import ShardImages
from classification.data.table import CsvImages
from classification.data.transforms import as_tensor, build_transform

__all__ = [
    "CifarImages",
    "CsvImages",
    "HubImages",
    "IlsvrcImages",
    "ImageFolder",
    "LabelledImages",
    "ShardImages",
    "SplitImages",
    "as_tensor",
    "build_transform",
    "class_folders",
    "list_samples",
    "prepare_config",
]
