"""From feature maps to one vector, or one small grid of vectors, for each image."""

import re
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.errors import UserError, shown

GEM_POWER = 3.0
GEM_LEAST = 1e-6  # values below are raised to it: a root of a negative number is none
GRID = re.compile(r"grid:([1-9]\d{0,2})")


def mean(x: Tensor) -> Tensor:
    """The mean over all positions: (B, C, H, W) to (B, C)."""
    return x.mean(dim=(2, 3))


def gem(x: Tensor) -> Tensor:
    """The generalised mean over all positions with power 3: (B, C, H, W) to (B, C), each value above 0.

    The mean of the third powers, and its third root. Negative values of a map count as 1e-6. Source: Radenović et al.,
    "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018, equation 2, and their published code.
    """
    return x.clamp(min=GEM_LEAST).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER)


def grid(x: Tensor, side: int) -> Tensor:
    """The means of side x side parts of equal size: (B, C, H, W) to (B, C, side, side).

    The parts overlap where ``side`` does not divide H or W, as in ``adaptive_avg_pool2d``.
    """
    return F.adaptive_avg_pool2d(x, side)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "gem": gem}


def pool_of(name: str) -> Callable[[Tensor], Tensor]:
    """The function of a name: a key of ``POOLS``, or ``grid:K`` with K from 1 to 999.

    Raises:
        UserError: the name is another one.
    """
    found = GRID.fullmatch(name) if isinstance(name, str) else None
    if found:
        return partial(grid, side=int(found[1]))
    if name not in POOLS:
        raise UserError(f"pool is {shown(name)}; allowed: {', '.join(POOLS)}, grid:K with K from 1 to 999")
    return POOLS[name]


def pooled(maps: Sequence[Tensor], pool: str) -> Tensor:
    """Each map pooled, side by side: maps of (B, C_i, H_i, W_i) to float32 (B, sum of C_i).

    Args:
        maps: of the asked stages, finest first.
        pool: a key of ``POOLS``.
    """
    return torch.cat([POOLS[pool](m.float()) for m in maps], dim=1)
