"""Heads that mmseg does not have."""

from segmentation.heads.gn_uper_head import GNUPerHead

__all__ = ["GNUPerHead"]
