"""The gated convolution of HorNet, of HorFPN and of HorNet's UPerHead (arXiv 2207.14284).

Source: raoyongming/HorNet@ac9e210, hornet.py.
"""

import torch
from torch import Tensor, nn

from backbones import cpu
from backbones.layers import LayerNorm2d
from backbones.memory_format import in_format_of
from backbones.ops import Conv1x1, DepthwiseConv2d, GlobalFilter


class GatedConv(nn.Module):
    """Recursive gated convolution (gnconv): (B, in_dim, H, W) to (B, dim, H, W).

    Args:
        in_dim, dim: channels of the input and of the output.
        order: number of products. Their widths double up to ``dim``, e.g. 16, 32, 64 for order 3 and 64 channels.
        filter_size: stored size of the global-local filter that makes the gates. None makes the gates by a depthwise
            7x7 convolution.
        scale: factor on each gate.
    """

    def __init__(self, in_dim: int, dim: int, order: int, filter_size: tuple[int, int] | None, scale: float = 1.0):
        super().__init__()
        self.dims = [dim // 2**i for i in reversed(range(order))]
        self.scale = scale
        gates = sum(self.dims)
        self.proj_in = Conv1x1(in_dim, self.dims[0] + gates)
        self.dwconv = DepthwiseConv2d(gates, 7) if filter_size is None else GlobalLocalFilter(gates, filter_size)
        self.pws = nn.ModuleList(Conv1x1(a, b) for a, b in zip(self.dims, self.dims[1:], strict=False))
        self.proj_out = Conv1x1(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        given, x = x, cpu.in_fast_format(x)
        x, gates = self.proj_in(x).split((self.dims[0], sum(self.dims)), dim=1)
        gates = (self.dwconv(gates) * self.scale).split(self.dims, dim=1)
        x = x * gates[0]
        for pw, gate in zip(self.pws, gates[1:], strict=True):
            x = pw(x) * gate
        return in_format_of(given, self.proj_out(x))


class GlobalLocalFilter(GlobalFilter):
    """A depthwise 3x3 convolution on the first half of the channels, a global filter on the second half.

    The results alternate in the output: the first channel of each half, then the second of each half, and so on.
    """

    def __init__(self, dim: int, size: tuple[int, int]):
        super().__init__(dim // 2, size)
        self.pre_norm = LayerNorm2d(dim, eps=1e-6)
        self.dw = nn.Conv2d(dim // 2, dim // 2, 3, padding=1, groups=dim // 2, bias=False)
        self.post_norm = LayerNorm2d(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        near, far = self.pre_norm(x).chunk(2, dim=1)
        near, far = self.dw(near), super().forward(far)
        x = torch.stack((near.permute(0, 2, 3, 1), far.permute(0, 2, 3, 1)), dim=-1)
        return self.post_norm(x.flatten(3).permute(0, 3, 1, 2))
