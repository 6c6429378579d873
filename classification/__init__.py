"""Image classification: ImageNet-style training of the backbones on mmengine, timm's augmentation.

from classification import create_classifier
clf = create_classifier("van_b2", pretrained="van_b2.in1k")
logits = clf(images)  # (B, 3, H, W) normalised RGB -> (B, 1000)
"""

from classification import register  # noqa: F401
from classification.data import check_data, prepare_config
from classification.model import Classifier, create_classifier

__all__ = ["Classifier", "check_data", "create_classifier", "prepare_config"]
