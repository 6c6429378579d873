"""Semantic segmentation: mmseg's heads on our backbones, ADE20K's folder format.

Importing this package (also through ``custom_imports``) makes the backbones known to mmseg's configs and, where mmcv
has no compiled operators, puts plain PyTorch ones in their place first.
"""

from segmentation import register  # noqa: F401
from segmentation.task import TASK

__all__ = ["TASK"]
