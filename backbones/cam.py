"""Class activation maps: how much each position of a classifier's last map speaks for a class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.checks import as_int
from backbones.errors import UserError
from backbones.heads import Head, PooledLinear, PooledNormLinear

EXACT = (PooledLinear, PooledNormLinear)  # heads whose logit is a sum over positions


def class_map(head: Head, features: Tensor, label: int) -> Tensor:
    """(H, W): how much each position speaks for a class.

    The heads of VAN, VVT and HorNet are linear in the positions: the mean of their map is the class's logit but for a
    constant (CAM, arXiv 1512.04150). HorNet's LayerNorm divides by the deviation of this image's pooled features. The
    head of ViG and Pyramid ViG has a hidden layer, so its map is Grad-CAM (arXiv 1610.02391), which is 0 or more: the
    map's channels, weighted by the gradients of the logit.

    Args:
        head: a classifier's head in eval mode, see :mod:`backbones.heads`.
        features: (C, H, W), the backbone's last map.
        label: the class's index.

    Raises:
        UserError: there is no such class.
    """
    last = getattr(head, head.LAST)
    if as_int(label) not in range(last.out_features):
        raise UserError(f"class is {label!r}; allowed: 0 to {last.out_features - 1}")
    if isinstance(head, PooledLinear):
        return weighted(last.weight[label], features)
    if isinstance(head, PooledNormLinear):
        centred = features - features.mean(0)
        deviation = (centred.mean((1, 2)).square().mean() + head.norm.eps).sqrt()
        return weighted(last.weight[label] * head.norm.weight, centred) / deviation
    with torch.enable_grad():
        given = features.detach()[None].requires_grad_()
        (gradient,) = torch.autograd.grad(head(given)[0, label], given)
    return F.relu(weighted(gradient[0].sum((1, 2)), features))


def weighted(weights: Tensor, features: Tensor) -> Tensor:
    """(H, W): the sum of the channels of (C, H, W), each with its weight (C,)."""
    return torch.einsum("c,chw->hw", weights.detach(), features)
