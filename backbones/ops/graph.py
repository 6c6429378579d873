"""Graphs over the positions of a map: nearest neighbours within a memory budget, and what is gathered from them.

Nodes are rows, (B, N, C); candidates (B, M, C).
Source: huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/gcn_lib.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import cpu
from backbones.ops.cache import CACHE

RULES = ("published", "grid")
BUDGET = 64 << 20  # bytes of similarities that exist at a time


def nearest(x: Tensor, y: Tensor, k: int, codes: tuple[Tensor, Tensor] | None = None, budget: int = BUDGET) -> Tensor:
    """Indices of the ``k`` nearest candidates of each node, nearest first.

    The distance is |x / |x| - y / |y||^2 - 2 p . q: squared between normalised rows, and a term of the positions. Of
    it only what differs between a node's candidates is computed, -1/2 times: x . y - |y|^2 / 2 + p . q.

    Args:
        x: (B, N, C) nodes.
        y: (B, M, C) candidates.
        codes: p (N, D) and q (M, D), or None for no term of the positions.
        budget: bytes of similarities, the positions' part included, that may exist at a time; nodes are taken in as
            many blocks of rows as that needs, at least one row each. The result does not depend on it, but for what
            rounding decides between candidates that are equally near.

    Returns:
        (B, N, k) int64.
    """
    with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
        dtype = torch.promote_types(x.dtype, torch.float32)  # half precision would make ties of most distances
        x, y = F.normalize(x.to(dtype), dim=-1), F.normalize(y.to(dtype), dim=-1)
        images = x.shape[0] + (codes is not None)  # the positions' part is that of one more
        rows = max(1, budget // (images * y.shape[1] * x.element_size()))
        if x.shape[1] <= rows:  # so that a graph compiled without blocks fits many sizes
            return ranked(x, y, k, codes)
        blocks = [slice(start, start + rows) for start in range(0, x.shape[1], rows)]
        return torch.cat([ranked(x[:, b], y, k, codes and (codes[0][b], codes[1])) for b in blocks], dim=1)


def ranked(x: Tensor, y: Tensor, k: int, codes: tuple[Tensor, Tensor] | None) -> Tensor:
    """:func:`nearest` of normalised rows, all at once."""
    length = y.any(-1)[:, None].to(x.dtype) * -0.5  # of a candidate that is 0 nothing is subtracted
    if codes is None:
        similarity = torch.baddbmm(length, x, y.transpose(1, 2))
    else:
        similarity = torch.baddbmm(codes[0] @ codes[1].t(), x, y.transpose(1, 2)).add_(length)
    return similarity.topk(k, dim=-1).indices


def max_relative(x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    """The largest difference per channel to a node's neighbours, max_j(y_j) - x_i: (B, N, C).

    Args:
        x: (B, N, C) nodes.
        y: (B, M, C) candidates.
        index: (B, N, K) int64, the neighbours of each node among the candidates.
    """
    return gathered_max(y, index) - x


def gathered_max(y: Tensor, index: Tensor) -> Tensor:
    """max over K of y[b, index[b, n]]: (B, N, C), by a running maximum. The gradient goes to the first largest."""
    if torch.is_grad_enabled() and y.requires_grad and not torch.jit.is_tracing():
        return GatheredMax.apply(y, index)[0]
    return running_max(y, index, with_winner=False)[0]


class GatheredMax(torch.autograd.Function):
    """:func:`running_max`, whose second result has no gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return running_max(y, index, with_winner=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], inputs[1])
        ctx.candidates = inputs[0].shape[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor, None]:
        winner, index = ctx.saved_tensors
        rows = index.gather(2, winner.long())
        dtype = torch.promote_types(grad.dtype, torch.float32)  # a candidate may be the nearest of thousands of nodes
        out = grad.new_zeros(grad.shape[0], ctx.candidates, grad.shape[2], dtype=dtype)
        return out.scatter_add(1, rows, grad.to(dtype)).to(grad.dtype), None


def running_max(y: Tensor, index: Tensor, with_winner: bool) -> tuple[Tensor, Tensor | None]:
    """The maximum over neighbours and, where wanted, which neighbour (0..K-1, uint8) has it."""
    batch, candidates, channels = y.shape
    flat = y.reshape(-1, channels)
    offsets = torch.arange(batch, device=y.device)[:, None, None] * candidates
    rows = (index + offsets).flatten(0, 1).t().contiguous()
    parts = [largest_rows(flat, part, with_winner) for part in cpu.gathered_rows(rows)]
    largest, winner = (torch.cat(found) if found[0] is not None else None for found in zip(*parts, strict=True))
    shape = (batch, -1, channels)
    return largest.view(shape), winner.view(shape) if with_winner else None


def largest_rows(flat: Tensor, rows: Tensor, with_winner: bool) -> tuple[Tensor, Tensor | None]:
    """:func:`running_max` of the rows of (R, C) that ``rows`` (K, n) names: (n, C) each."""
    largest = flat.index_select(0, rows[0])
    winner = torch.zeros_like(largest, dtype=torch.uint8) if with_winner else None
    for j in range(1, len(rows)):
        row = flat.index_select(0, rows[j])
        if with_winner:
            winner = torch.where(row > largest, j, winner)
        largest = torch.maximum(largest, row)
    return largest, winner


def gather(y: Tensor, index: Tensor) -> Tensor:
    """y[b, index[b, n, k]]: (B, N, K, C)."""
    batch, nodes, k = index.shape
    rows = index.reshape(batch, -1, 1).expand(-1, -1, y.shape[2])
    dtype = torch.promote_types(y.dtype, torch.float32)  # of the sums that are a candidate's gradient
    return y.to(dtype).gather(1, rows).view(batch, nodes, k, -1).to(y.dtype)


def codes_like(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """:func:`relative_position_codes` in the dtype (float32 up) and on the device of ``x``, kept for further calls."""
    dtype, device = torch.promote_types(x.dtype, torch.float32), x.device
    at = device if device.type in ("cpu", "cuda", "meta") else None  # others may not know float64

    def make() -> tuple[Tensor, Tensor]:
        return tuple(code.to(device, dtype) for code in relative_position_codes(*args, at))

    return CACHE.get(("codes", device, dtype, *args), make, like=x)


def relative_position_codes(
    dim: int,
    native: int,
    ratio: int,
    height: int,
    width: int,
    rows: int,
    columns: int,
    rule: str,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows whose products are the relative positions of Pyramid ViG, so that no table of them is needed.

    The published table is -2 / C times the Gram matrix of the 2-D sine-cosine codes of a square grid, resized along
    its second axis for pooled candidates. For other sizes the published code resizes the table over both axes, as if
    node numbers were coordinates. Either resize is linear in one axis, so it can be done to the codes.

    Args:
        dim: channels C of the codes, a multiple of 4.
        native: sides of the published grid of nodes.
        ratio: pooling ratio of the candidates.
        height, width: of the grid of nodes.
        rows, columns: of the grid of candidates.
        rule: ``"published"``, or ``"grid"``: the codes of the true places, a candidate's in the middle of its window.
        device: of the codes.

    Returns:
        p (height * width, C) and q (rows * columns, C), float64: the table is -2 p @ q^T.
    """
    if rule == "published":
        codes = sincos_codes(dim, native, native, 1, device)
        candidates = resized_rows(codes, (native // ratio) ** 2)
        p, q = resized_rows(codes, height * width), resized_rows(candidates, rows * columns)
    else:
        p, q = sincos_codes(dim, height, width, 1, device), sincos_codes(dim, rows, columns, ratio, device)
    return p / dim, q


def sincos_codes(dim: int, height: int, width: int, step: int, device: torch.device | None = None) -> Tensor:
    """2-D sine-cosine codes (height * width, dim) of windows of ``step`` x ``step``; x first, each sine then cosine."""
    y, x, channel = (torch.arange(n, dtype=torch.float64, device=device) for n in (height, width, dim // 4))
    frequencies = 10000.0 ** -(channel / (dim / 4))
    y, x = (y * step + (step - 1) / 2, x * step + (step - 1) / 2)
    parts = []
    for places, repeat in ((x, lambda c: c.repeat(height, 1)), (y, lambda c: c.repeat_interleave(width, dim=0))):
        angles = places[:, None] * frequencies
        parts += [repeat(angles.sin()), repeat(angles.cos())]
    return torch.cat(parts, dim=1)


def resized_rows(codes: Tensor, count: int) -> Tensor:
    """(N, C) rows resized to (count, C) as ``F.interpolate`` resizes one axis of an image, bicubic."""
    image = codes.t()[None, :, :, None]
    return F.interpolate(image, size=(count, 1), mode="bicubic", align_corners=False)[0, :, :, 0].t()
