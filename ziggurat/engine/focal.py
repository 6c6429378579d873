"""Focal loss over a softmax: cross entropy in which what the model knows already weighs less."""

from torch import Tensor

GAMMA = 2.0  # of the paper


def focal_cross_entropy(logits: Tensor, targets: Tensor, gamma: float = GAMMA, weight: Tensor | None = None) -> Tensor:
    """The focal loss (Lin et al., 2017, arXiv 1708.02002) of a softmax, one value for each target.

    With probabilities ``p`` and targets ``t``, a value is the sum over classes of ``-weight t (1 - p)^gamma log p``.
    ``gamma=0`` gives cross entropy.

    Args:
        logits: (N, C, ...).
        targets: class indices (N, ...), or shares of the classes in the shape of ``logits``.
        gamma: 0 or more.
        weight: (C,), of the classes.

    Returns:
        Values in the shape (N, ...).
    """
    logs = logits.float().log_softmax(dim=1)
    if targets.is_floating_point():
        values = targets * focused(logs, gamma)
        if weight is not None:
            values = values * weight.view(-1, *[1] * (logits.ndim - 2))
        return values.sum(dim=1)
    values = focused(logs.gather(1, targets.unsqueeze(1)).squeeze(1), gamma)
    return values if weight is None else values * weight[targets]


def focused(logs: Tensor, gamma: float) -> Tensor:
    """``-(1 - p)^gamma log p`` from ``log p``."""
    if gamma == 0:
        return -logs
    # A root of an exact 0 has no finite gradient.
    return -((-logs.expm1()).clamp(min=1e-12) ** gamma) * logs
