"""Pyramid ViG: Vision GNN in four stages (arXiv 2206.00272).

Source of the architecture: huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/pyramid_vig.py.
"""

from typing import Any, NamedTuple

from torch import nn

from backbones.graph_layers import GraphOptions, GraphStem, ViGBlock, init_graph_module
from backbones.layers import ConvNorm
from backbones.output_stride import OutputStride
from backbones.pyramid import PyramidBackbone
from backbones.stage import Stage


class PViGArch(NamedTuple):
    depths: tuple[int, ...]  # blocks per stage, stride-4 stage first
    embed_dims: tuple[int, ...]  # channels per stage


ARCHS = {
    "pvig_tiny": PViGArch((2, 2, 6, 2), (48, 96, 240, 384)),
    "pvig_small": PViGArch((2, 2, 6, 2), (80, 160, 400, 640)),
    "pvig_medium": PViGArch((2, 2, 16, 2), (96, 192, 384, 768)),
    "pvig_base": PViGArch((2, 2, 18, 2), (128, 256, 512, 1024)),
}
NEIGHBOURS, MAX_DILATION = 9, 5
RATIOS = (4, 2, 1, 1)  # by which each stage pools its candidates
NATIVE = (56, 28, 14, 7)  # sides of each stage's map at 224x224, the size of the published position tables


class PViG(OutputStride, PyramidBackbone):
    """Four-stage pyramid of graph convolutions between positions that look alike.

    Input:  (B, in_chans, H, W), H and W from 32 up; sides that are not a multiple of 32 are rounded up at each stride.
    Output: one (B, embed_dims[i], ceil(H / 2**(i + 2)), ceil(W / 2**(i + 2))) map per out_indices, finest first,
        as the stage's last block leaves it.

    A node has 9 neighbours, every dilation-th of the nearest 9 * dilation candidates. On a map with fewer candidates
    the dilation shrinks first, then the number of neighbours.

    A graph that ``torch.export`` made for free sizes does not adapt. All its similarities must fit into the budget at
    once, and its map at stride 32 must have at least 18 positions. Inputs of other sizes raise.

    Args:
        conv, relative_position, stochastic, budget: see :class:`backbones.graph_layers.GraphOptions`.
        output_stride: the largest stride of a map, see :class:`backbones.output_stride.OutputStride`. Graphs of finer
            maps take more time, by the fourth power of the ratio.

    For the other arguments see :class:`backbones.PyramidBackbone`.
    """

    ARCHS = ARCHS
    init_module = staticmethod(init_graph_module)

    def __init__(
        self,
        arch: str,
        *args: Any,
        conv: str = "mr",
        relative_position: str = "published",
        stochastic: float = 0.0,
        budget: int = GraphOptions().budget,
        **kwargs: Any,
    ):
        self.options = GraphOptions(conv, relative_position, stochastic, budget).check()
        super().__init__(arch, *args, **kwargs)

    def arguments(self) -> dict[str, Any]:
        options = self.options
        return super().arguments() | {"conv": options.conv, "relative_position": options.relative_position}

    def build(self, arch: PViGArch, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        dims = arch.embed_dims
        self.stem = GraphStem(self.in_chans, (dims[0] // 2, dims[0]), NATIVE[0])
        for i in range(num_stages):
            downsample = nn.Identity() if i == 0 else ConvNorm(dims[i - 1], dims[i], kernel_size=3, stride=self.step(i))
            blocks = []
            for j, rate in enumerate(drop_path_rates[i], start=sum(arch.depths[:i])):
                dilation = min(j // 4 + 1, MAX_DILATION)
                blocks.append(ViGBlock(dims[i], NEIGHBOURS, dilation, self.options, rate, RATIOS[i], NATIVE[i]))
            self.stages.append(Stage(downsample, blocks, nn.Identity()))
