"""Image classification: ImageNet-style training of the backbones on mmengine, timm's augmentation.

from classification import create_classifier
clf = create_classifier("van_b2", pretrained="van_b2.in1k")
logits = clf(images)  # (B, 3, H, W) normalised RGB -> (B, 1000)
"""

from classification import register  # noqa: F401
from classification.model import Classifier, create_classifier
from classification.task import TASK

__all__ = ["TASK", "Classifier", "create_classifier"]
