"""HorFPN: a feature pyramid that ends in recursive gated convolutions (HorNet, arXiv 2207.14284, section 3.4).

Source: raoyongming/HorNet@ac9e210, object_detection/necks/gn_fpn.py and configs/horfpn, where its name is GNFPN.
"""

from typing import Any

from mmdet.models.necks import FPN
from mmdet.registry import MODELS

from backbones.gated_conv import GatedConv


@MODELS.register_module(force=True)
class HorFPN(FPN):
    """mmdet's FPN with a gated convolution in place of each level's 3x3 convolution, without norm and activation.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every returned map.
        num_outs: number of returned maps. A map beyond the backbone's levels has every second pixel of the map before.
        order: number of products in each gated convolution.
        filter_size: stored size of the global-local filters; published: (32, 17). None filters with a depthwise 7x7
            convolution.
        **kwargs: the other arguments of mmdet's FPN.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int = 256,
        num_outs: int = 5,
        order: int = 2,
        filter_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(in_channels, out_channels, num_outs, **kwargs)
        for i in range(len(self.lateral_convs)):  # later fpn_convs make extra levels
            self.fpn_convs[i] = GatedConv(out_channels, out_channels, order, filter_size)
