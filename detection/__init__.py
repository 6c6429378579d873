"""Object detection and instance segmentation: mmdet's detectors on our backbones, COCO format.

Importing this package, also through ``custom_imports``, registers the backbones for mmdet's configs. If mmcv has no
compiled operators, plain PyTorch operators take their place first.
"""

from detection import register, tta  # noqa: F401
from detection.task import TASK

__all__ = ["TASK"]
