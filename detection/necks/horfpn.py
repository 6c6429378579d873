"""HorFPN: a feature pyramid whose last convolutions are recursive gated ones (HorNet, arXiv 2207.14284, section 3.4).

Source: raoyongming/HorNet@ac9e210, object_detection/necks/gn_fpn.py and configs/horfpn (there named GNFPN).
"""

from typing import Any

from mmdet.models.necks import FPN
from mmdet.registry import MODELS

from backbones.hornet import GatedConv


@MODELS.register_module(force=True)
class HorFPN(FPN):
    """mmdet's FPN with a gated convolution, not followed by norm or activation, for each level's 3x3 one.

    Args:
        in_channels: of the backbone's maps, finest first.
        out_channels: of every map returned.
        num_outs: maps returned; those beyond the backbone's levels are every second pixel of the one before.
        order: products of the gated convolutions.
        filter_size: None filters with a depthwise 7x7 convolution; (32, 17), as published, is the stored size of
            global-local filters.
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
        for i in range(len(self.lateral_convs)):  # what follows in fpn_convs makes further levels
            self.fpn_convs[i] = GatedConv(out_channels, out_channels, order, filter_size)
