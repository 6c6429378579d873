"""ImageNet-Real: the reassessed labels of ImageNet's validation images, several or none for an image.

Source: Beyer et al., "Are we done with ImageNet?", arXiv 2006.07159; google-research/reassessed-imagenet, real.json.
"""

import json
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from backbones.errors import UserError
from classification.imagenet import synsets

VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})$")


class RealLabels(Dataset):
    """The images of another data set that have reassessed labels. An item's ``data_samples`` is the image's number.

    ``metainfo["label_sets"]`` has the right classes of every image, by the same number. The metrics read them there.

    Args:
        dataset: config of a data set of ImageNet's validation images, with their names ILSVRC2012_val_00000001 and so
            on. Its ``samples`` are pairs of path and class.
        labels: the file real.json: for each validation image the list of its classes, 0 to 999. None takes the list
            that timm has.
        classes: the names of the model's classes, by index: ImageNet's WordNet ids in any order.

    Raises:
        UserError: the file is of another form, an image's name has no number or one beyond the list, the classes are
            not ImageNet's, or no image has labels.
    """

    def __init__(self, dataset: dict[str, Any], classes: Sequence[str], labels: str | None = None):
        self.images = DATASETS.build(dataset)
        known = read_labels(labels)
        if set(classes) != set(synsets()):
            raise UserError(f"ImageNet-Real labels ImageNet's 1000 classes; the model has {len(classes)} others")
        index = {name: i for i, name in enumerate(classes)}
        here = [index[name] for name in synsets()]  # of the list's classes among the model's
        if not hasattr(self.images, "samples"):
            raise UserError(
                f"ImageNet-Real needs the names of images, which {type(self.images).__name__} does not have"
            )
        self.indices, self.label_sets = [], []
        for position, (path, _) in enumerate(self.images.samples):
            found = known[number_of(path, len(known))]
            if found:
                self.indices.append(position)
                self.label_sets.append(tuple(here[label] for label in found))
        if not self.indices:
            raise UserError(f"none of {len(self.images)} images has a label in ImageNet-Real")

    @property
    def metainfo(self) -> dict[str, Any]:
        return {**self.images.metainfo, "label_sets": tuple(self.label_sets)}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {**self.images[self.indices[number]], "data_samples": number}


def read_labels(path: str | Path | None) -> list[list[int]]:
    """The classes of every validation image, in the order of the images' numbers; arguments and errors as above."""
    if path is None:
        text = pkgutil.get_data("timm.data", "_info/imagenet_real_labels.json")
    else:
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"--real-labels {path}: {error.strerror}; allowed: the file real.json") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    allowed = range(len(synsets()))
    if not isinstance(found, list) or not all(
        isinstance(labels, list) and all(type(label) is int and label in allowed for label in labels)
        for labels in found
    ):
        raise UserError(f"--real-labels {path} is no list of lists of classes 0 to 999; allowed: the file real.json")
    return found


def number_of(path: str, count: int) -> int:
    """The place of a validation image in the list, by the number in its file's name; UserError if there is none."""
    match = VALIDATION_IMAGE.match(Path(path).stem)
    number = int(match[1]) - 1 if match else -1
    if not 0 <= number < count:
        raise UserError(f"{path} is no image that ImageNet-Real knows; allowed: ILSVRC2012_val_{1:08} to {count:08}")
    return number


def use_real_labels(cfg: Any, classes: Sequence[str], labels: str | Path | None = None) -> None:
    """Makes a config test by ImageNet-Real's labels, in place; arguments as for :class:`RealLabels`."""
    loader = cfg.test_dataloader
    labels = None if labels is None else str(labels)
    loader.dataset = ConfigDict(type="RealLabels", dataset=loader.dataset, classes=list(classes), labels=labels)
