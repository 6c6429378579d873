"""The digest by which two sets of weights are told apart."""

import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from backbones.files import sha256_of
from backbones.weights.fetch import locate


def weights_sha256(net: Any, weights: str | Path | None) -> str:
    """The SHA-256 of the file of weights, or of the network's own tensors if it has random weights.

    Args:
        net: a network with an ``arch``. The ``digest`` of one that a runtime computes counts first.
        weights: a name of the weights table, a URL or a file; None for random weights.
    """
    known = getattr(net, "digest", None)
    if known is not None:
        return known
    return tensors_sha256(net) if weights is None else sha256_of(locate(net.arch, weights))


def tensors_sha256(net: nn.Module) -> str:
    """The SHA-256 of a network's tensors and their names."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
