"""From feature maps to one vector for each image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

GEM_POWER = 3.0
GEM_LEAST = 1e-6  # values below are raised to it: a root of a negative number is none


def mean(x: Tensor) -> Tensor:
    """The mean over all positions: (B, C, H, W) to (B, C)."""
    return x.mean(dim=(2, 3))


def gem(x: Tensor) -> Tensor:
    """The generalised mean over all positions with power 3: (B, C, H, W) to (B, C), each value above 0.

    The mean of the third powers, and its third root. Negative values of a map count as 1e-6. Source: Radenović et al.,
    "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018, equation 2, and their published code.
    """
    return x.clamp(min=GEM_LEAST).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "gem": gem}


def pooled(maps: Sequence[Tensor], pool: str) -> Tensor:
    """Each map pooled, side by side: maps of (B, C_i, H_i, W_i) to float32 (B, sum of C_i).

    Args:
        maps: of the asked stages, finest first.
        pool: a key of ``POOLS``.
    """
    return torch.cat([POOLS[pool](m.float()) for m in maps], dim=1)
