"""The heavy operations, each with a plain PyTorch reference and faster paths that give the same numbers."""

from backbones.ops.depthwise import DepthwiseConv2d
from backbones.ops.global_filter import GlobalFilter
from backbones.ops.pointwise import Conv1x1, conv_gelu
from backbones.ops.vicinity import vicinity_attention

__all__ = ["Conv1x1", "DepthwiseConv2d", "GlobalFilter", "conv_gelu", "vicinity_attention"]
