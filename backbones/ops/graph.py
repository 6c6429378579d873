"""Graphs over the positions of a map: finding the nearest neighbours within a memory budget, and gathering from them.

Nodes are rows (B, N, C). Candidates, the positions that may become neighbours, are rows (B, M, C).
Source: huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/gcn_lib.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import cpu
from backbones.ops.cache import CACHE
from backbones.ops.exporting import are_free, as_operand, constants, is_exporting, table_type, without_autocast

RULES = ("published", "grid")
BUDGET = 64 << 20  # bytes of similarities that exist at a time


def nearest(x: Tensor, y: Tensor, k: int, codes: tuple[Tensor, Tensor] | None = None, budget: int = BUDGET) -> Tensor:
    """Indices of the ``k`` nearest candidates of each node, nearest first.

    With x and y normalised to length 1, the distance between a node and a candidate is::

        |x - y|^2 - 2 p . q

    |x|^2 is the same for all candidates of a node, so it is left out. The largest of these similarities are nearest::

        x . y - |y|^2 / 2 + p . q

    Args:
        x: (B, N, C) nodes.
        y: (B, M, C) candidates.
        k: how many candidates, 1 to M.
        codes: p (N, D) and q (M, D), the codes of the positions. None leaves out p . q.
        budget: bytes of similarities that may exist at a time. Nodes are taken in blocks of rows that fit, one row at
            least. Block sizes change the result only where rounding decides between equally near candidates.

    Returns:
        (B, N, k) int64.
    """
    with without_autocast(x):
        dtype = torch.promote_types(x.dtype, torch.float32)  # half precision would make ties of most distances
        x, y = F.normalize(x.to(dtype), dim=-1), F.normalize(y.to(dtype), dim=-1)
        images = x.shape[0] + (codes is not None)  # p . q takes as much as one image
        rows = max(1, budget // (images * y.shape[1] * x.element_size()))
        if x.shape[1] <= rows:  # a graph compiled without blocks fits many sizes
            return ranked(x, y, k, codes)
        blocks = [slice(start, start + rows) for start in range(0, x.shape[1], rows)]
        return torch.cat([ranked(x[:, b], y, k, codes and (codes[0][b], codes[1])) for b in blocks], dim=1)


def ranked(x: Tensor, y: Tensor, k: int, codes: tuple[Tensor, Tensor] | None) -> Tensor:
    """:func:`nearest` of normalised rows, all at once."""
    length = y.any(-1)[:, None].to(x.dtype) * -0.5  # -|y|^2 / 2, which is 0 for a candidate of zeros
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
    """Maximum over K of y[b, index[b, n]]: (B, N, C). The gradient goes to the first of equal maxima."""
    if torch.is_grad_enabled() and y.requires_grad and not torch.jit.is_tracing():
        return GatheredMax.apply(y, index)[0]
    return running_max(y, index, with_winner=False)[0]


class GatheredMax(torch.autograd.Function):
    """:func:`running_max` with a gradient for the maximum, and none for the winner."""

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
        dtype = torch.promote_types(grad.dtype, torch.float32)  # thousands of nodes may share a candidate
        out = grad.new_zeros(grad.shape[0], ctx.candidates, grad.shape[2], dtype=dtype)
        return out.scatter_add(1, rows, grad.to(dtype)).to(grad.dtype), None


def running_max(y: Tensor, index: Tensor, with_winner: bool) -> tuple[Tensor, Tensor | None]:
    """The maximum over neighbours (B, N, C), and the number 0..K-1 of the neighbour that has it (uint8), or None."""
    batch, candidates, channels = y.shape
    flat = y.reshape(-1, channels)
    offsets = torch.arange(batch, device=y.device)[:, None, None] * candidates
    rows = (index + offsets).flatten(0, 1).t().contiguous()
    parts = [largest_rows(flat, part, with_winner) for part in cpu.gathered_rows(rows)]
    largest, winner = (torch.cat(found) if found[0] is not None else None for found in zip(*parts, strict=True))
    shape = (batch, -1, channels)
    return largest.view(shape), winner.view(shape) if with_winner else None


def largest_rows(flat: Tensor, rows: Tensor, with_winner: bool) -> tuple[Tensor, Tensor | None]:
    """:func:`running_max` over K of ``flat[rows]``, with ``flat`` (R, C) and ``rows`` (K, n): two (n, C)."""
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
    dtype = torch.promote_types(y.dtype, torch.float32)  # a candidate's gradient is a long sum
    return y.to(dtype).gather(1, rows).view(batch, nodes, k, -1).to(y.dtype)


def codes_like(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """:func:`relative_position_codes` on the device of ``x``, kept for further calls. Half types become float32."""
    dtype, device = torch.promote_types(x.dtype, torch.float32), x.device
    at = device if device.type in ("cpu", "cuda", "meta") else None  # other devices may lack float64

    def make() -> tuple[Tensor, Tensor]:
        return tuple(code.to(device, dtype) for code in relative_position_codes(*args, at, table_type(dtype, *args)))

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
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Two sets of rows whose products are the relative positions of Pyramid ViG. No N x M table is stored.

    The published table is -2 / C times the products of all pairs of codes. The codes are 2-D sines and cosines over a
    square grid. For pooled candidates the published code resizes the table along its second axis. For other map sizes
    it resizes both axes, as if node numbers were coordinates. Each resize is linear along one axis of the table, so
    resizing the codes gives the same table.

    Args:
        dim: channels C of the codes, a multiple of 4.
        native: sides of the published grid of nodes, such as 56 for stride 4 at 224x224.
        ratio: pooling ratio of the candidates.
        height, width: of the grid of nodes.
        rows, columns: of the grid of candidates.
        rule: ``"published"`` as above. ``"grid"`` takes the codes of the true places; the place of a candidate is the
            middle of its window.
        device, dtype: of the codes.

    Returns:
        p (height * width, C) and q (rows * columns, C): the table is -2 p @ q^T.
    """
    if rule == "published":

        def published() -> tuple[Tensor, Tensor]:
            codes = sincos_codes(dim, native, native, 1, device)
            return codes.to(dtype), resized_rows(codes, (native // ratio) ** 2).to(dtype)

        codes, candidates = constants(published)
        p, q = resized_rows(codes, height * width), resized_rows(candidates, rows * columns)
    else:
        p, q = (
            sincos_codes(dim, height, width, 1, device, dtype),
            sincos_codes(dim, rows, columns, ratio, device, dtype),
        )
    return p / dim, q


def sincos_codes(
    dim: int,
    height: int,
    width: int,
    step: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Codes (height * width, dim) of the middles of windows of ``step`` x ``step`` places.

    A quarter of the channels each: sine of x, cosine of x, sine of y, cosine of y.
    """
    y, x, channel = (torch.arange(n, dtype=dtype, device=device) for n in (height, width, dim // 4))
    frequencies = 10000.0 ** -(channel / (dim / 4))
    y, x = (y * step + (step - 1) / 2, x * step + (step - 1) / 2)
    parts = []
    for places, axis in ((x, 0), (y, 1)):
        angles = places[:, None] * frequencies
        parts += [part.unsqueeze(axis).expand(height, width, -1) for part in (angles.sin(), angles.cos())]
    return torch.cat(parts, dim=2).flatten(0, 1)


def resized_rows(codes: Tensor, count: int) -> Tensor:
    """(N, C) rows resized to (count, C), bicubic, as ``F.interpolate`` resizes one axis of an image."""
    if is_exporting() and are_free(count):
        return gathered_rows(codes, count)
    image = codes.t()[None, :, :, None]
    return F.interpolate(image, size=(count, 1), mode="bicubic", align_corners=False)[0, :, :, 0].t()


def gathered_rows(codes: Tensor, count: int) -> Tensor:
    """:func:`resized_rows` for an exported graph whose ``count`` is free: each row is a sum of four.

    The place of a row among the given ones is (2 i + 1) N / (2 count) - 1/2. Integers give its whole part and its rest
    exactly, in any runtime.
    """
    i = torch.arange(count, device=codes.device)
    count = as_operand(count, i)
    place = (2 * i + 1) * len(codes) + count  # the place + 1, in parts of 2 count: never negative
    below = place // (2 * count)
    rest = (place - below * 2 * count).to(codes.dtype) / (2 * count)
    rows = [codes.index_select(0, (below + shift).clamp(0, len(codes) - 1)) for shift in (-2, -1, 0, 1)]
    return sum(row * weight[:, None] for row, weight in zip(rows, cubic_weights(rest), strict=True))


def cubic_weights(rest: Tensor) -> tuple[Tensor, ...]:
    """The weights of two rows below a place and of two above, as PyTorch's bicubic resize has them.

    Args:
        rest: how far the place is above the nearest row below, 0 to 1.
    """

    def near(t: Tensor) -> Tensor:
        return (1.25 * t - 2.25) * t * t + 1

    def far(t: Tensor) -> Tensor:
        return ((-0.75 * t + 3.75) * t - 6) * t + 3

    return far(rest + 1), near(rest), near(1 - rest), far(2 - rest)
