"""The heavy operations. Each has a plain PyTorch form, and a faster path that gives the same numbers."""

from backbones.ops.depthwise import DepthwiseConv2d
from backbones.ops.global_filter import GlobalFilter
from backbones.ops.pointwise import Conv1x1, conv_gelu
from backbones.ops.vicinity import vicinity_attention

__all__ = ["Conv1x1", "DepthwiseConv2d", "GlobalFilter", "conv_gelu", "vicinity_attention"]
