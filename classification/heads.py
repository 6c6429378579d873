"""From a backbone's last map to logits: each family in its own order of pooling and norm."""

import torch
from torch import Tensor, nn

from backbones import VAN, PyramidBackbone


class PooledLinear(nn.Module):
    """The mean over all positions, then ``fc``: (B, C, H, W) to (B, num_classes). The map comes normed."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.fc = nn.Linear(channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.mean(x, dim=(2, 3)))


HEADS: dict[type[PyramidBackbone], type[nn.Module]] = {VAN: PooledLinear}


def build_head(backbone: PyramidBackbone, num_classes: int) -> nn.Module:
    """The head of the backbone's family, for its last map."""
    return HEADS[type(backbone)](backbone.feature_info[-1].channels, num_classes)
