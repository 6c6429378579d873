"""The network of a store of features."""

from collections.abc import Sequence
from typing import Any

import torch

from backbones import FeatureExtractor


def network_of(
    arch: str | None, stages: Sequence[int], weights: str | None, device: str, dtype: torch.dtype, **how: Any
) -> FeatureExtractor:
    """A ``FeatureExtractor``. Random weights are the same in every process, and when a run goes on.

    Args:
        arch, stages, weights, device, dtype, **how: as for ``FeatureExtractor``. ``how`` may have None for ``which``.
    """
    torch.manual_seed(0)
    return FeatureExtractor(arch, stages, weights, device, dtype, **how)
