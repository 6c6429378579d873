"""All pyramids as encoders of segmentation_models_pytorch: ``import backbones.smp``, then ``smp.Unet("zg-van_b2")``.

A name of the weights table, as in ``smp.Unet("zg-van_b2.in1k", encoder_weights=None)``, loads those weights. The
isotropic ViG has one scale, and is no encoder. This module alone imports segmentation_models_pytorch.
"""

from collections.abc import Sequence
from typing import Any

from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.registry import create_backbone, family_of, list_archs
from backbones.vig import ViG
from backbones.weights import WEIGHTS, load_weights

PREFIX = "zg-"


class Encoder(nn.Module, EncoderMixin):
    """A pyramid as smp's decoders take it: the image, an empty map at half its size, then the maps of the stages.

    Args:
        name: an arch, or a name of the weights table.
        depth: 2 to 5: the coarsest map has stride ``2 ** depth``.
        output_stride: the largest stride of a map: 8, 16 or 32.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, name: str, depth: int = 5, output_stride: int = 32):
        super().__init__()
        if depth not in range(2, 6):
            raise UserError(f"encoder_depth of {PREFIX}{name} is {depth!r}; allowed: 2 to 5")
        self._depth, self._in_channels, self._output_stride = depth, 3, output_stride
        self.options = dict(out_indices=range(depth - 1), output_stride=output_stride)
        pretrained = name if name in WEIGHTS else None
        self.backbone = create_backbone(name.split(".")[0], pretrained=pretrained, **self.options)

    @property
    def _out_channels(self) -> list[int]:
        return [self._in_channels, 0, *(info.channels for info in self.backbone.feature_info)]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Takes images of other channels. Weights are widened by the rule of :mod:`backbones.weights.widen`."""
        if in_channels == self._in_channels:
            return
        old, self._in_channels = self.backbone, in_channels
        self.backbone = create_backbone(old.arch, in_chans=in_channels, **self.options)
        load_weights(self.backbone, old.state_dict())

    def make_dilated(self, output_stride: int) -> None:
        """Nothing is left to do: the stages keep their size since the network was built."""

    def get_stages(self) -> dict[int, Sequence[nn.Module]]:
        """The stages by stride."""
        strides = [info.stride for info in self.backbone.feature_info]
        return {stride: [s for s, of in zip(self.backbone.stages, strides) if of == stride] for stride in strides}

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to maps at strides 1, 2, 4, ... ``2 ** depth``; sides are multiples of the coarsest stride."""
        height, width = x.shape[-2:]
        return [x, x.new_empty(len(x), 0, height // 2, width // 2), *self.backbone(x)]


def settings_of(name: str) -> dict[str, Any]:
    return {"encoder": Encoder, "pretrained_settings": {}, "params": {"name": name}}


ARCHS = [arch for arch in list_archs() if not issubclass(family_of(arch), ViG)]
NAMES = ARCHS + [name for name in WEIGHTS if name.split(".")[0] in ARCHS]
encoders.update({f"{PREFIX}{name}": settings_of(name) for name in NAMES})
