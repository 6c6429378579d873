"""UPerNet's head with a recursive gated convolution as its last one (HorNet, arXiv 2207.14284, section 3.4).

Source: raoyongming/HorNet@ac9e210, semantic_segmentation/decode_heads/gn_uper_head.py and configs/horfpn.
"""

from typing import Any

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmseg.models.decode_heads import UPerHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from backbones.gated_conv import GatedConv


@MODELS.register_module(force=True)
class GNUPerHead(UPerHead):
    """mmseg's UPerHead whose ``fpn_bottleneck`` is a gated convolution, then norm and activation.

    Args:
        order: number of products in the gated convolution.
        filter_size: stored size of the global-local filter; published: (32, 17). None filters with a depthwise 7x7
            convolution.
        **kwargs: arguments of mmseg's UPerHead.
    """

    def __init__(self, order: int = 2, filter_size: tuple[int, int] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.fpn_bottleneck = GatedConvModule(
            len(self.in_channels) * self.channels, self.channels, order, filter_size, self.norm_cfg, self.act_cfg
        )


class GatedConvModule(GatedConv):
    """A gated convolution, norm and activation, in the manner of mmcv's ConvModule."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        order: int,
        filter_size: tuple[int, int] | None,
        norm_cfg: dict[str, Any] | None,
        act_cfg: dict[str, Any] | None,
    ):
        super().__init__(in_dim, dim, order, filter_size)
        self.norm_name, norm = build_norm_layer(norm_cfg, dim) if norm_cfg else ("bn", nn.Identity())
        self.add_module(self.norm_name, norm)
        self.activate = build_activation_layer(act_cfg) if act_cfg else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(getattr(self, self.norm_name)(super().forward(x)))
