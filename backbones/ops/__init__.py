"""The heavy operations, each with a plain PyTorch reference and faster paths that give the same numbers."""

from backbones.ops.depthwise import DepthwiseConv2d
from backbones.ops.global_filter import GlobalFilter

__all__ = ["DepthwiseConv2d", "GlobalFilter"]
