"""Semantic segmentation: mmseg's heads on our backbones, ADE20K's folder format.

Importing this package, also through ``custom_imports``, registers the backbones for mmseg's configs. If mmcv has no
compiled operators, plain PyTorch operators take their place first.
"""

from segmentation import register  # noqa: F401
from segmentation.task import TASK

__all__ = ["TASK"]
