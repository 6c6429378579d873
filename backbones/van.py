"""VAN: Visual Attention Network, large kernel attention (arXiv 2202.09741).

Source of the architecture: Visual-Attention-Network/VAN-Classification@e19779b, models/van.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.fuse import fold_norm_before, norm_affine
from backbones.layers import BatchNorm2d, ConvMLP, ConvNorm, DropPath, LayerNorm2d
from backbones.ops import Conv1x1, DepthwiseConv2d, conv_gelu
from backbones.output_stride import OutputStride
from backbones.pyramid import PyramidBackbone
from backbones.stage import Stage


class VANArch(NamedTuple):
    depths: tuple[int, ...]  # blocks per stage, stride-4 stage first
    embed_dims: tuple[int, ...]  # channels per stage
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)


ARCHS = {
    "van_b0": VANArch((3, 3, 5, 2), (32, 64, 160, 256)),
    "van_b1": VANArch((2, 2, 4, 2), (64, 128, 320, 512)),
    "van_b2": VANArch((3, 3, 12, 3), (64, 128, 320, 512)),
    "van_b3": VANArch((3, 5, 27, 3), (64, 128, 320, 512)),
    "van_b4": VANArch((3, 6, 40, 3), (64, 128, 320, 512)),
    "van_b5": VANArch((3, 3, 24, 3), (96, 192, 480, 768)),
    "van_b6": VANArch((6, 6, 90, 6), (96, 192, 384, 768)),
}
NORM_EPS = 1e-6


class VAN(OutputStride, PyramidBackbone):
    """Four-stage convolutional pyramid with large kernel attention.

    Input:  (B, in_chans, H, W), H and W from 32 up; sides that are not a multiple of 32 are rounded up at each stride.
    Output: one (B, embed_dims[i], ceil(H / 2**(i + 2)), ceil(W / 2**(i + 2))) map per out_indices, finest first,
        after the stage's LayerNorm.

    Args:
        norm_eps: eps of the LayerNorms that end the stages, 0 to 1. None (default): decided by the loaded weights. It
            is 1e-5 for weights of mmpretrain, mmseg and the official segmentation repository. It is 1e-6 otherwise.
        output_stride: the largest stride of a map, see :class:`backbones.output_stride.OutputStride`.

    For the other arguments see :class:`backbones.PyramidBackbone`.
    """

    ARCHS = ARCHS
    SETTLED_BY_WEIGHTS = ("norm_eps",)

    def __init__(self, arch: str, *args: Any, norm_eps: float | None = None, **kwargs: Any):
        self.norm_eps = norm_eps if norm_eps is None else check_eps(norm_eps)
        super().__init__(arch, *args, **kwargs)

    def build(self, arch: VANArch, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        dims, mlp_ratios = arch.embed_dims, arch.mlp_ratios
        self.stem = ConvNorm(self.in_chans, dims[0], kernel_size=7, stride=4)
        for i in range(num_stages):
            downsample = nn.Identity() if i == 0 else ConvNorm(dims[i - 1], dims[i], kernel_size=3, stride=self.step(i))
            blocks = [VANBlock(dims[i], mlp_ratios[i], rate) for rate in drop_path_rates[i]]
            self.stages.append(Stage(downsample, blocks, LayerNorm2d(dims[i], eps=self.norm_eps or NORM_EPS)))

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"norm_eps": self.stages[0].norm.eps}

    def match_structure(self, structure: Mapping[str, Any]) -> None:
        if self.norm_eps is None and structure.get("norm_eps") is not None:
            for stage in self.stages:
                stage.norm.eps = check_eps(structure["norm_eps"])


def check_eps(value: float) -> float:
    """Returns ``value`` as a float; UserError unless 0 < value < 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"norm_eps is {value!r}; allowed: 0 < norm_eps < 1, or None")
    return float(value)


class VANBlock(nn.Module):
    """Attention and MLP branches over a (B, C, H, W) map, each after a BatchNorm and behind a layer scale."""

    def __init__(self, dim: int, mlp_ratio: int, drop_path: float):
        super().__init__()
        self.norm1 = BatchNorm2d(dim)
        self.attn = LargeKernelAttention(dim)
        self.layer_scale1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.norm2 = BatchNorm2d(dim)
        self.mlp = ConvMLP(dim, dim * mlp_ratio)
        self.layer_scale2 = nn.Parameter(torch.full((dim,), 1e-2))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        # The attention has a shortcut of its own, from the normalised map.
        y = (self.attn(y) + y) * self.layer_scale1[:, None, None]
        x = x + self.drop_path(y)
        y = self.mlp(self.norm2(x)) * self.layer_scale2[:, None, None]
        return x + self.drop_path(y)

    @torch.no_grad()
    def fused(self) -> nn.Module:
        """The block for inference: both norms and layer scales folded into its 1x1 convolutions."""
        return FusedVANBlock(self)


class LargeKernelAttention(nn.Module):
    """1x1 and GELU, a product with the map's own large-kernel filtering, 1x1: (B, C, H, W) to the same shape.

    The large kernel is a dense 5x5, a 7x7 of dilation 3 and a 1x1 convolution in a row.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.proj_in = Conv1x1(dim, dim)
        self.dw = DepthwiseConv2d(dim, 5)
        self.dw_dilated = DepthwiseConv2d(dim, 7, dilation=3)
        self.pw = Conv1x1(dim, dim)
        self.proj_out = Conv1x1(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = conv_gelu(self.proj_in, x)
        return self.proj_out(x * self.pw(self.dw_dilated(self.dw(x))))


class FusedVANBlock(nn.Module):
    """A VANBlock in eval mode with its norms and layer scales folded. The outputs agree up to rounding.

    With norm1(x) = a x + b and layer scale s, the attention branch and its shortcut are::

        x + s (attn(a x + b) + a x + b) = (1 + s a) x + s attn(a x + b) + s b
    """

    def __init__(self, block: VANBlock):
        super().__init__()
        self.attn, self.mlp = block.attn, block.mlp
        scale, shift = norm_affine(block.norm1)
        fold_norm_before(block.norm1, self.attn.proj_in)
        fold_norm_before(block.norm2, self.mlp.fc1)
        self.register_buffer("skip", (1 + block.layer_scale1 * scale)[:, None, None])
        for conv, layer_scale in ((self.attn.proj_out, block.layer_scale1), (self.mlp.fc2, block.layer_scale2)):
            conv.weight.mul_(layer_scale[:, None, None, None])
            conv.bias.mul_(layer_scale)
        self.attn.proj_out.bias.add_(block.layer_scale1 * shift)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(self.attn(x), x, self.skip)
        return x + self.mlp(x)
