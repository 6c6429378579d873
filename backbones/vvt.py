"""VVT: Vicinity Vision Transformer, linear attention with a two-dimensional locality bias (arXiv 2206.10552).

Source of the architecture: OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f, classification/vvt.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbones.layers import ConvMLP, DropPath, LayerNorm2d
from backbones.memory_format import channels_last
from backbones.ops import Conv1x1, vicinity_attention
from backbones.ops.vicinity import clamped_product
from backbones.output_stride import OutputStride
from backbones.pyramid import PyramidBackbone
from backbones.stage import Stage


class VVTArch(NamedTuple):
    depths: tuple[int, ...]  # blocks per stage, stride-4 stage first
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)
    embed_dims: tuple[int, ...] = (96, 160, 320, 512)  # channels per stage
    num_heads: tuple[int, ...] = (1, 2, 5, 8)


ARCHS = {
    "vvt_tiny": VVTArch((2, 2, 2, 2)),
    "vvt_small": VVTArch((3, 3, 9, 3)),
    "vvt_medium": VVTArch((3, 3, 27, 3)),
    "vvt_large": VVTArch((4, 4, 36, 4), mlp_ratios=(4, 4, 4, 4)),
}


class VVT(OutputStride, PyramidBackbone):
    """Four-stage pyramid transformer with vicinity attention over all positions of each map.

    Input:  (B, in_chans, H, W), H and W from 32 up; sides that are not a multiple of 32 are rounded up at each stride.
    Output: one (B, embed_dims[i], ceil(H / 2**(i + 2)), ceil(W / 2**(i + 2))) map per out_indices, finest first,
        after the stage's LayerNorm, which the next stage receives too.

    No parameter depends on the size of the training images: positions are fractions of the height and of the width.

    Args:
        output_stride: the largest stride of a map, see :class:`backbones.output_stride.OutputStride`.

    For the other arguments see :class:`backbones.PyramidBackbone`.
    """

    ARCHS = ARCHS

    def build(self, arch: VVTArch, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        dims = arch.embed_dims
        self.stem = PatchEmbed(self.in_chans, dims[0], kernel_size=7, stride=4)
        for i in range(num_stages):
            downsample = nn.Identity() if i == 0 else PatchEmbed(dims[i - 1], dims[i], 3, stride=self.step(i))
            blocks = [VVTBlock(dims[i], arch.num_heads[i], arch.mlp_ratios[i], rate) for rate in drop_path_rates[i]]
            self.stages.append(Stage(downsample, blocks, LayerNorm2d(dims[i], eps=1e-6)))

    @staticmethod
    def init_module(module: nn.Module) -> None:
        """As the base class, except that a 1x1 convolution is initialised as the published code's linear layer."""
        PyramidBackbone.init_module(module)
        if isinstance(module, Conv1x1):
            nn.init.trunc_normal_(module.weight, std=0.02)


class PatchEmbed(nn.Module):
    """An overlapping convolution and LayerNorm: (B, in_dim, H, W) to (B, dim, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, in_dim: int, dim: int, kernel_size: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel_size, stride, padding=kernel_size // 2)
        self.norm = LayerNorm2d(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(channels_last(self.conv(x)))


class VVTBlock(nn.Module):
    """Attention and MLP branches over a (B, C, H, W) map, each after a LayerNorm."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int, drop_path: float):
        super().__init__()
        self.norm1 = LayerNorm2d(dim, eps=1e-6)
        self.attn = VicinityAttention(dim, num_heads)
        self.norm2 = LayerNorm2d(dim, eps=1e-6)
        self.mlp = ConvMLP(dim, dim * mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VicinityAttention(nn.Module):
    """Vicinity attention at half the width, a projection back, and a gate: (B, C, H, W) to the same shape.

    The gate is a factor of 1 to 2 for each channel, computed from the mean over all positions.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Conv1x1(dim, dim // 2)
        self.k_proj = Conv1x1(dim, dim // 2)
        self.v_proj = Conv1x1(dim, dim // 2)
        self.out_proj = Conv1x1(dim // 2, dim)
        self.gate1 = nn.Linear(dim, dim, bias=False)
        self.gate2 = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        gate = self.gate2(self.gate1(x.mean((2, 3), dtype=dtype).to(x.dtype)).relu()).sigmoid()
        maps = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (y.unflatten(1, (self.num_heads, -1)).permute(0, 1, 3, 4, 2) for y in maps)  # (B, h, H, W, d)
        y = vicinity_attention(q, k, v).permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)  # channels last
        return clamped_product(self.out_proj(y).to(dtype), 1 + gate[..., None, None].to(dtype)).to(x.dtype)
