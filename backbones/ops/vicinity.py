"""Vicinity attention: linear attention that favours near places, VVT's (arXiv 2206.10552).

The token at row y and column x of a H x W map has the angles a = pi/2 * y/H and b = pi/2 * x/W. Four copies of its
query are multiplied by cos a, sin a, cos b and sin b; so are four copies of its key. The product of two such features::

    q . k * (cos(a - a') + cos(b - b'))

is largest for near places. The attention stays linear: the sums over tokens can be formed before the products with q.

The published clamps turn a sum that cancels to 0 into 1e-4, with the sign of the sum's rounding error. So in the
published code the sign of a few values depends on the processor. Here such a sum is mostly 0, so these values may
differ from the published ones.

Source: OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f, classification/vvt.py.
"""

import math

import torch
from torch import Tensor

from backbones.ops.cache import CACHE
from backbones.ops.exporting import without_autocast

LOW, HIGH = 1e-4, 1e4  # magnitudes to which intermediate results are clamped
EPS = 1e-4  # added to the normaliser


def vicinity_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The fast form: the numbers of :func:`vicinity_attention_reference` without the four copies.

    cos a and sin a are the same along a row, cos b and sin b along a column. So the sums over tokens are weighted sums
    of one small matrix per row and per column. All queries of a row, or of a column, are multiplied by one small
    matrix. This halves the arithmetic. Time is linear in the number of tokens.

    Args:
        q, k, v: (B, h, H, W, d) for h heads of width d; queries and keys before their ReLU. Half types are computed
            in float32.

    Returns:
        (B, h, H, W, d) of the same type.
    """
    dtype = q.dtype
    with without_autocast(q):
        q, k, v = (t.to(torch.promote_types(dtype, torch.float32)) for t in (q, k, v))
        return attend(q.relu(), k.relu(), v).to(dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    height, width, dim = q.shape[2:]
    along_y, along_x = angle_cos_sin(height, q), angle_cos_sin(width, q)  # (2, H) and (2, W)
    by_row = k.transpose(3, 4) @ v  # (B, h, H, d, d)
    by_column = k.permute(0, 1, 3, 4, 2) @ v.transpose(2, 3)  # (B, h, W, d, d)
    kv = torch.cat((along_y @ by_row.flatten(3), along_x @ by_column.flatten(3)), dim=2)  # (B, h, 4, d * d)
    k_sum = torch.cat((along_y @ k.sum(3), along_x @ k.sum(2)), dim=2)  # (B, h, 4, d)
    # The sums of the normaliser are one more column of the matrices that the queries are multiplied by.
    both = torch.cat((clamp_magnitude(kv).unflatten(3, (dim, dim)), k_sum[..., None]), dim=4).flatten(3)
    for_row = (along_y.t() @ both[:, :, :2]).unflatten(3, (dim, dim + 1))  # (B, h, H, d, d + 1)
    for_column = (along_x.t() @ both[:, :, 2:]).unflatten(3, (dim, dim + 1))
    out = q @ for_row + (q.transpose(2, 3) @ for_column).transpose(2, 3)
    out, total = out.split((dim, 1), dim=4)
    return clamped_product(out, (total + EPS).reciprocal().clamp(LOW, HIGH))


def vicinity_attention_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The plain form, as in the paper. Arguments as for :func:`vicinity_attention`; computed in their own type."""
    batch, heads, height, width, dim = q.shape
    cos_y, sin_y = angle_cos_sin(height, q)[:, :, None, None].expand(2, height, width, 1)
    cos_x, sin_x = angle_cos_sin(width, q)[:, None, :, None].expand(2, height, width, 1)
    q, k = (
        torch.cat((t * cos_y, t * sin_y, t * cos_x, t * sin_x), dim=4).flatten(2, 3) for t in (q.relu(), k.relu())
    )  # (B, h, N, 4 d)
    kv = clamp_magnitude(k.transpose(2, 3) @ v.flatten(2, 3))
    z = clamp_magnitude(1 / (q @ k.sum(2)[..., None] + EPS))
    return clamp_magnitude(clamp_magnitude(q @ kv) * z).view(batch, heads, height, width, dim)


def clamp_magnitude(t: Tensor) -> Tensor:
    """Clamps the magnitude to [1e-4, 1e4] and keeps the sign. Zero stays zero, and has no gradient."""
    return t.abs().clamp_(LOW, HIGH).mul_(t.sign())


def clamped_product(t: Tensor, factor: Tensor) -> Tensor:
    """``clamp_magnitude(clamp_magnitude(t) * factor)`` for a positive factor."""
    return t.abs().clamp_(LOW, HIGH).mul_(factor).clamp_(LOW, HIGH).mul_(t.sign())


def angle_cos_sin(length: int, like: Tensor) -> Tensor:
    """Cosine and sine of pi/2 * i/length, (2, length), kept for further calls."""
    args = (length, like.dtype, like.device)
    return CACHE.get(("vicinity", *args), lambda: (make_angle_cos_sin(*args),), like=like)[0]


def make_angle_cos_sin(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # The published angles are float32, whatever the network's type is. The divisor is a tensor: CUDA replaces the
    # division by a number with a product by its reciprocal, which rounds differently.
    steps = torch.arange(length, device=device, dtype=torch.float32)
    angles = (math.pi / 2 * steps / torch.full_like(steps, length)).to(dtype)
    return torch.stack((angles.cos(), angles.sin()))
