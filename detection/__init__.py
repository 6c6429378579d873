"""Object detection and instance segmentation: mmdet's detectors on our backbones, COCO format.

Importing this package (also through ``custom_imports``) makes the backbones known to mmdet's configs and, where mmcv
has no compiled operators, puts plain PyTorch ones in their place first.
"""

from detection import register, tta  # noqa: F401
from detection.task import TASK

__all__ = ["TASK"]
