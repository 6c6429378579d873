"""The classifiers' heads: (B, C, H, W), a backbone's last map, to logits (B, num_classes).

Each family has its own order of pooling and norm.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import UserError, unknown
from backbones.hornet import HorNet
from backbones.layers import BatchNorm1d
from backbones.pvig import PViG
from backbones.pyramid import PyramidBackbone
from backbones.van import VAN
from backbones.vig import ViG
from backbones.vvt import VVT


class Head(nn.Module):
    """Features of each image, then the layer that gives the logits.

    Attributes:
        LAST: the name of that layer.
    """

    LAST = "fc"

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D), the input of the last layer."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.LAST)(self.features(x))


class PooledLinear(Head):
    """The mean over all positions, then ``fc``: the head of VAN and VVT, whose last map ends in a norm."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.fc = linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return torch.mean(x, dim=(2, 3))


class PooledNormLinear(Head):
    """The mean over all positions, LayerNorm, then ``fc``: HorNet's head."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.fc = linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(torch.mean(x, dim=(2, 3)))


class PooledMLP(Head):
    """The mean over all positions, then a hidden layer of 1024 with BatchNorm and GELU: ViG's and PViG's head."""

    LAST = "fc2"

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.fc1 = linear(channels, 1024)
        self.norm = BatchNorm1d(1024)
        self.fc2 = linear(1024, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.fc1(torch.mean(x, dim=(2, 3)))))


HEADS: dict[type[PyramidBackbone], type[Head]] = {
    VAN: PooledLinear,
    HorNet: PooledNormLinear,
    PViG: PooledMLP,
    ViG: PooledMLP,
    VVT: PooledLinear,
}


def build_head(backbone: PyramidBackbone, num_classes: int, init_scale: float = 1.0) -> Head:
    """The head of the backbone's family, for the backbone's last map.

    Args:
        backbone: the network.
        num_classes: size of the output.
        init_scale: factor on the initial weights of the last layer, as ConvNeXt's ``head_init_scale``.

    Raises:
        UserError: the backbone is of another class, or ``init_scale`` is not a number above 0.
    """
    if isinstance(init_scale, bool) or not isinstance(init_scale, int | float) or not init_scale > 0:
        raise UserError(f"head_init_scale is {init_scale!r}; allowed: numbers above 0")
    head = next((head for family, head in HEADS.items() if isinstance(backbone, family)), None)
    if head is None:
        raise unknown("family of backbone", type(backbone).__name__, [family.__name__ for family in HEADS])
    head = head(backbone.feature_info[-1].channels, num_classes)
    with torch.no_grad():
        getattr(head, head.LAST).weight.mul_(init_scale)
    return head


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with weights of truncated normal 0.02 and biases 0."""
    layer = nn.Linear(in_features, out_features)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
