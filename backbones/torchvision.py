"""Backbones with a feature pyramid for torchvision's detectors.

model = torchvision.models.detection.FasterRCNN(fpn("van_b2", pretrained=True), num_classes=91)
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from backbones.registry import create_backbone


class BackboneWithFPN(nn.Module):
    """A pyramid, and torchvision's FPN over its maps.

    Args:
        body: the backbone.
        out_channels: of each map.
        extra_blocks: what makes coarser maps; None takes a max-pooling, as Faster R-CNN does.

    Attributes:
        out_channels: as torchvision's detectors ask for it.
    """

    def __init__(self, body: nn.Module, out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None):
        super().__init__()
        self.body, self.out_channels = body, out_channels
        channels = [info.channels for info in body.feature_info]
        self.fpn = FeaturePyramidNetwork(channels, out_channels, extra_blocks or LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to maps by name, the finest first: "0", "1", ... and those of ``extra_blocks``."""
        return self.fpn(OrderedDict((str(i), found) for i, found in enumerate(self.body(x))))


def fpn(
    arch: str,
    out_channels: int = 256,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    extra_blocks: ExtraFPNBlock | None = None,
    **options: Any,
) -> BackboneWithFPN:
    """A backbone with torchvision's FPN; arguments as for :class:`BackboneWithFPN` and ``create_backbone``.

    torchvision's detectors normalise by ImageNet's mean and std; other weights need their ``image_mean`` and
    ``image_std``, which :class:`backbones.FeatureExtractor` names.
    """
    return BackboneWithFPN(create_backbone(arch, out_indices=out_indices, **options), out_channels, extra_blocks)
