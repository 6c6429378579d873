"""The heavy operations, each with a plain PyTorch reference and faster paths that give the same numbers."""

from backbones.ops.conv_mlp import conv_mlp
from backbones.ops.depthwise import DepthwiseConv2d
from backbones.ops.global_filter import GlobalFilter
from backbones.ops.vicinity import vicinity_attention

__all__ = ["DepthwiseConv2d", "GlobalFilter", "conv_mlp", "vicinity_attention"]
