"""HamNet's head: a matrix decomposition between two convolutions (arXiv 2109.04553), as VAN's authors used it.

Source: Visual-Attention-Network/VAN-Segmentation@2573491, mmseg/models/decode_heads/ham_head.py: HamHead. mmseg has the
light form, ``LightHamHead``.
"""

from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.ham_head import NMF2D
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional as F


@MODELS.register_module(force=True)
class HamHead(BaseDecodeHead):
    """Squeezes one map, rebuilds it from few factors, aligns the result, and joins the result with the map.

    The factors begin with random numbers in every pass, so predictions of one image differ slightly.

    Args:
        ham_channels: channels that are decomposed.
        ham_kwargs: arguments of the decomposition, e.g. ``dict(MD_R=64)`` for 64 factors.
        concat_input: whether the input is joined with the result.
        **kwargs: arguments of mmseg's BaseDecodeHead.
    """

    def __init__(
        self,
        ham_channels: int = 512,
        ham_kwargs: dict[str, Any] | None = None,
        concat_input: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.concat_input = concat_input
        self.squeeze = self.conv3x3(self.in_channels, ham_channels)
        self.ham_in = ConvModule(ham_channels, ham_channels, 1, conv_cfg=self.conv_cfg, act_cfg=None)
        self.ham = NMF2D(ham_kwargs or {})
        self.ham_out = ConvModule(
            ham_channels, ham_channels, 1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=None
        )
        self.align = self.conv3x3(ham_channels, self.channels)
        if concat_input:
            self.conv_cat = self.conv3x3(self.in_channels + self.channels, self.channels)

    def conv3x3(self, in_channels: int, out_channels: int) -> ConvModule:
        """A 3x3 convolution with norm and activation."""
        parts = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        return ConvModule(in_channels, out_channels, 3, padding=1, **parts)

    def hamburger(self, x: Tensor) -> Tensor:
        """(B, ham_channels, H, W) and its decomposition, added."""
        return F.relu(x + self.ham_out(self.ham(F.relu(self.ham_in(x)))))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """The backbone's maps to scores (B, num_classes, H, W) of the chosen map's size."""
        x = self._transform_inputs(inputs)
        output = self.align(self.hamburger(self.squeeze(x)))
        if self.concat_input:
            output = self.conv_cat(torch.cat([x, output], dim=1))
        return self.cls_seg(output)
