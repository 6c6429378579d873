"""HorNet: high-order spatial interactions with recursive gated convolutions (arXiv 2207.14284).

Source of the architecture: raoyongming/HorNet@ac9e210, hornet.py, object_detection/models/hornet.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones.checks import as_int
from backbones.errors import UserError, shown
from backbones.gated_conv import GatedConv
from backbones.layers import DropPath, LayerNorm2d
from backbones.ops import Conv1x1, GlobalFilter, conv_gelu
from backbones.ops.global_filter import resized_filter
from backbones.output_stride import OutputStride
from backbones.pyramid import PyramidBackbone
from backbones.stage import Stage

SCALE = 1 / 3  # factor on every gate of the backbone


class HorNetArch(NamedTuple):
    embed_dims: tuple[int, ...]  # channels per stage, stride-4 stage first
    filters: tuple[tuple[int, int] | None, ...] = (None, None, None, None)  # size of the global filters; None: 7x7
    depths: tuple[int, ...] = (2, 3, 18, 2)  # blocks per stage
    orders: tuple[int, ...] = (2, 3, 4, 5)  # number of products in each gated convolution


GF = (None, None, (14, 8), (7, 4))
GF384 = (None, None, (24, 13), (12, 7))
ARCHS = {
    "hornet_tiny_7x7": HorNetArch((64, 128, 256, 512)),
    "hornet_tiny_gf": HorNetArch((64, 128, 256, 512), GF),
    "hornet_small_7x7": HorNetArch((96, 192, 384, 768)),
    "hornet_small_gf": HorNetArch((96, 192, 384, 768), GF),
    "hornet_base_7x7": HorNetArch((128, 256, 512, 1024)),
    "hornet_base_gf": HorNetArch((128, 256, 512, 1024), GF),
    "hornet_large_7x7": HorNetArch((192, 384, 768, 1536)),
    "hornet_large_gf": HorNetArch((192, 384, 768, 1536), GF),
    "hornet_large_gf384": HorNetArch((192, 384, 768, 1536), GF384),
}


class HorNet(OutputStride, PyramidBackbone):
    """Four-stage convolutional pyramid of recursive gated convolutions, with 7x7 or global filters.

    Input:  (B, in_chans, H, W), H and W from 32 up; sides that are not a multiple of 32 round down at each stride.
    Output: one (B, embed_dims[i], H // 2**(i + 2), W // 2**(i + 2)) map per out_indices, finest first.

    A global filter is stored for one map size, and resized for maps of other sizes.

    Args:
        filter_sizes: (height, width) of the stored global filters, one for each stage, e.g. ``(None, None, (14, 8),
            (7, 4))``. A stage of 7x7 filters has None. A load resizes filters of other sizes, as the official detection
            and segmentation code does. None for all, the default: decided by the loaded weights, else by the arch.
        output_stride: the largest stride of a map, see :class:`backbones.output_stride.OutputStride`.
        out_norm: whether a LayerNorm ends each returned map, as in the official detection and segmentation backbones.
            None (default): decided by the loaded weights.

    For the other arguments see :class:`backbones.PyramidBackbone`.
    """

    ARCHS = ARCHS
    SETTLED_BY_WEIGHTS = ("filter_sizes", "out_norm")

    def __init__(
        self,
        arch: str,
        *args: Any,
        filter_sizes: Sequence[Sequence[int] | None] | None = None,
        out_norm: bool | None = None,
        **kwargs: Any,
    ):
        if out_norm is not None and not isinstance(out_norm, bool):
            raise UserError(f"out_norm is {out_norm!r}; allowed: True, False, None")
        self.out_norm = out_norm
        self.filter_sizes = filter_sizes
        super().__init__(arch, *args, **kwargs)

    def build(self, arch: HorNetArch, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        dims, filters = arch.embed_dims, check_filters(self.filter_sizes, arch.filters)
        self.stem = nn.Sequential(nn.Conv2d(self.in_chans, dims[0], 4, stride=4), LayerNorm2d(dims[0], eps=1e-6))
        for i in range(num_stages):
            downsample = nn.Identity() if i == 0 else Downsample(dims[i - 1], dims[i], self.step(i))
            blocks = [HorNetBlock(dims[i], arch.orders[i], filters[i], rate) for rate in drop_path_rates[i]]
            self.stages.append(Stage(downsample, blocks, nn.Identity()))
        self.out_norms = nn.ModuleDict()
        if self.out_norm:
            self.add_out_norms()

    def add_out_norms(self) -> None:
        """Adds a LayerNorm for each returned map, on the device and in the type of the other weights."""
        weight = self.stem[0].weight
        for info, i in zip(self.feature_info, self.out_indices, strict=True):
            norm = LayerNorm2d(info.channels, eps=1e-6, device=weight.device, dtype=weight.dtype)
            self.out_norms[str(i)] = norm.train(self.training)

    def output(self, i: int, x: Tensor) -> Tensor:
        if str(i) not in self.out_norms:
            return x
        if self.training and torch.is_grad_enabled():
            # A head may leave out fine maps. DDP stops at a parameter without a gradient. So the coarser maps give the
            # norms of finer maps gradients of zero.
            finer = [norm for j, norm in self.out_norms.items() if int(j) < i]
            x = GivesZeroGradients.apply(x, *(p for norm in finer for p in norm.parameters() if p.requires_grad))
        return self.out_norms[str(i)](x)

    def frozen_modules(self) -> list[nn.Module]:
        norms = [self.out_norms[i] for i in self.out_norms if int(i) < self.frozen_stages]
        return super().frozen_modules() + norms

    def arguments(self) -> dict[str, Any]:
        sizes = [None if size is None else list(size) for size in self.ARCHS[self.arch].filters]
        for i, stage in enumerate(self.stages):
            for module in filters_of(stage):
                sizes[i] = list(module.complex_weight.shape[1:3])
        return super().arguments() | {"filter_sizes": sizes, "out_norm": bool(self.out_norms)}

    def match_structure(self, structure: Mapping[str, Any]) -> None:
        sizes = structure.get("filter_sizes", ()) if self.filter_sizes is None else ()
        for stage, size in zip(self.stages, sizes, strict=False):
            for module in filters_of(stage):
                module.resize(size)
        has_norms = structure.get("out_norm", bool(self.out_norms))
        if self.out_norm is None and has_norms != bool(self.out_norms):
            self.out_norms = nn.ModuleDict()
            if has_norms:
                self.add_out_norms()
            self.freeze()

    def fitted(self, name: str, stored: Tensor, target: Tensor) -> Tensor:
        is_filter = name.endswith(".complex_weight") and stored.ndim == target.ndim and stored.is_floating_point()
        if self.filter_sizes is None or not is_filter or stored.layout != torch.strided or not stored.numel():
            return stored
        return resized_filter(stored, target.shape[1:3])

    @staticmethod
    def init_module(module: nn.Module) -> None:
        """Convolutions and linear layers: truncated normal 0.02, biases 0. Other modules initialise themselves."""
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class GivesZeroGradients(torch.autograd.Function):
    """Returns ``x``. The backward pass also gives each of ``params`` a gradient of zeros."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, *params: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *map(torch.zeros_like, ctx.saved_tensors)


def filters_of(stage: nn.Module) -> list[GlobalFilter]:
    return [module for module in stage.modules() if isinstance(module, GlobalFilter)]


def check_filters(
    sizes: Sequence[Sequence[int] | None] | None, published: tuple[tuple[int, int] | None, ...]
) -> list[tuple[int, int] | None]:
    """The size of each stage's global filters: ``sizes``, or ``published`` where ``sizes`` is None.

    Raises:
        UserError: ``sizes`` lacks a size where the arch has global filters, or has one elsewhere.
    """
    if sizes is None:
        return list(published)
    try:
        checked = [size if size is None else tuple(as_int(side) for side in size) for size in sizes]
    except TypeError:
        checked = []
    if len(checked) != len(published) or not all(map(is_filter_for, checked, published)):
        allowed = ", ".join("None" if size is None else "(height, width)" for size in published)
        raise UserError(f"filter_sizes is {shown(sizes)}; allowed: ({allowed}) with integers from 1, or None")
    return checked


def is_filter_for(size: tuple[int | None, ...] | None, published: tuple[int, int] | None) -> bool:
    """Whether a stage that has, or has not, global filters by its arch may have ``size``."""
    if size is None or published is None:
        return size is published
    return len(size) == 2 and all(side is not None and side > 0 for side in size)


class Downsample(nn.Sequential):
    """LayerNorm, then a 2x2 convolution of stride 2: (B, in_dim, H, W) to (B, dim, H // 2, W // 2).

    With stride 1 a row and a column of zeros follow the map, which keeps its size, as in timm's ConvNeXt.
    """

    def __init__(self, in_dim: int, dim: int, stride: int):
        super().__init__()
        self.norm = LayerNorm2d(in_dim, eps=1e-6)
        if stride == 1:
            self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(in_dim, dim, 2, stride)


class HorNetBlock(nn.Module):
    """Gated convolution and MLP branches over a (B, C, H, W) map, each after a LayerNorm and behind a layer scale."""

    def __init__(self, dim: int, order: int, filter_size: tuple[int, int] | None, drop_path: float):
        super().__init__()
        self.norm1 = LayerNorm2d(dim, eps=1e-6)
        self.gnconv = GatedConv(dim, dim, order, filter_size, scale=SCALE)
        self.gamma1 = nn.Parameter(torch.full((dim,), 1e-6))
        self.norm2 = LayerNorm2d(dim, eps=1e-6)
        self.pwconv1 = Conv1x1(dim, 4 * dim)
        self.pwconv2 = Conv1x1(4 * dim, dim)
        self.gamma2 = nn.Parameter(torch.full((dim,), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.add(x, self.gnconv(self.norm1(x)), self.gamma1)
        return self.add(x, self.pwconv2(conv_gelu(self.pwconv1, self.norm2(x))), self.gamma2)

    def add(self, x: Tensor, branch: Tensor, gamma: Tensor) -> Tensor:
        return torch.addcmul(x, self.drop_path(branch), gamma[:, None, None])
