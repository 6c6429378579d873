"""Four scales from one map: the simple feature pyramid of ViTDet (Li et al., arXiv 2203.16527)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from backbones import cpu
from backbones.checks import MAX_CHANS, check_int
from backbones.layers import LayerNorm2d
from backbones.memory_format import in_format_of

MOST_OUTS = 16  # maps: the last has a stride of 65536 then


class SimpleFeaturePyramid(nn.Module):
    """One map of stride 16, such as the isotropic ViG's, to maps of strides 4, 8, 16 and 32.

    Each scale ends in a 1x1 and a 3x3 convolution, each with LayerNorm.

    Args:
        in_channels: channels of the given map, 4 to 4096.
        out_channels: channels of every returned map, 1 to 4096.
        num_outs: number of returned maps, up to 16. At least all from ``start_level`` to stride 32 are returned. A
            further map has every second position of the map before.
        start_level: the first map returned: 0 for stride 4, 1 for 8, 2 for 16, 3 for 32.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, num_outs: int = 4, start_level: int = 0):
        super().__init__()
        in_channels = check_int("in_channels", in_channels, 4, MAX_CHANS)
        out_channels = check_int("out_channels", out_channels, 1, MAX_CHANS)
        start_level = check_int("start_level", start_level, 0, 3)
        self.num_outs = check_int("num_outs", num_outs, 4 - start_level, MOST_OUTS)
        half, quarter = in_channels // 2, in_channels // 4
        resizes = (
            nn.Sequential(
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                LayerNorm2d(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ),
            nn.ConvTranspose2d(in_channels, half, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2, stride=2, ceil_mode=True),  # odd sides round up, as strided convolutions round them
        )
        widths = (quarter, half, in_channels, in_channels)
        self.scales = nn.ModuleList(
            nn.Sequential(
                resize,
                nn.Conv2d(channels, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            for resize, channels in zip(resizes[start_level:], widths[start_level:], strict=True)
        )

    def forward(self, maps: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One (B, C, H, W) map to ``num_outs`` maps, finest first. Of several given maps the last counts."""
        x = maps if isinstance(maps, Tensor) else maps[-1]
        fast = cpu.in_fast_format(x)
        outs = [in_format_of(x, scale(fast)) for scale in self.scales]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
