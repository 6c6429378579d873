"""Heads that mmseg does not have."""

from segmentation.heads.gn_uper_head import GNUPerHead
from segmentation.heads.ham_head import HamHead

__all__ = ["GNUPerHead", "HamHead"]
