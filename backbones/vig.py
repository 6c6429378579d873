"""ViG: Vision GNN at one scale (arXiv 2206.00272).

Source of the architecture: huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/vig.py.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones import cpu
from backbones.checks import resolve_out_indices
from backbones.errors import UserError
from backbones.graph_layers import GraphOptions, GraphStem, ViGBlock, init_graph_module
from backbones.memory_format import in_format_of
from backbones.pyramid import PyramidBackbone
from backbones.stage import Stage


class ViGArch(NamedTuple):
    depths: tuple[int, ...]  # blocks in each quarter
    embed_dims: tuple[int, ...]  # channels in each quarter, all the same


ARCHS = {
    "vig_tiny": ViGArch((3, 3, 3, 3), (192, 192, 192, 192)),
    "vig_small": ViGArch((4, 4, 4, 4), (320, 320, 320, 320)),
    "vig_base": ViGArch((4, 4, 4, 4), (640, 640, 640, 640)),
}
NATIVE = 14  # sides of the map at 224x224


class ViG(PyramidBackbone):
    """Graph convolutions between positions that look alike, at one scale. Four quarters of the blocks stand for stages.

    Input:  (B, in_chans, H, W), H and W from 32 up; sides that are not a multiple of 16 are rounded up.
    Output: one (B, C, ceil(H / 16), ceil(W / 16)) map per out_indices, the output of that quarter's last block; or one
        per ``out_blocks``. :class:`backbones.SimpleFeaturePyramid` makes four scales of the last map.

    On a map with few nodes the dilation shrinks first, then the number of neighbours. A graph that ``torch.export``
    made for free sizes has the limits of :class:`backbones.PViG`, with at least 36 positions.

    Args:
        out_blocks: blocks whose outputs are returned, instead of out_indices, e.g. ``(2, 5, 8, 11)``. They are counted
            from 0, negatives from the end, and kept ascending. Blocks that no map needs are not built.
        conv, stochastic, budget: see :class:`backbones.graph_layers.GraphOptions`.

    For the other arguments see :class:`backbones.PyramidBackbone`.
    """

    ARCHS = ARCHS
    STRIDES = (16, 16, 16, 16)
    init_module = staticmethod(init_graph_module)

    def __init__(
        self,
        arch: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        *args: Any,
        out_blocks: Sequence[int] | None = None,
        conv: str = "mr",
        stochastic: float = 0.0,
        budget: int = GraphOptions().budget,
        **kwargs: Any,
    ):
        self.options = GraphOptions(conv, stochastic=stochastic, budget=budget).check()
        self.out_blocks, self.by_blocks = None, out_blocks is not None
        if out_blocks is not None and resolve_out_indices(out_indices, 4) != (0, 1, 2, 3):
            raise UserError(f"out_indices is {out_indices!r} and out_blocks {out_blocks!r}; allowed: one of them")
        if out_blocks is not None and arch in self.ARCHS:
            depths = self.ARCHS[arch].depths
            self.out_blocks = resolve_out_indices(out_blocks, sum(depths), "out_blocks")
            quarters = [i for i, depth in enumerate(depths) for _ in range(depth)]
            out_indices = (quarters[self.out_blocks[-1]],)  # quarters after this one are not built
        super().__init__(arch, out_indices, *args, **kwargs)

    def arguments(self) -> dict[str, Any]:
        arguments = super().arguments() | {"conv": self.options.conv}
        if self.by_blocks:
            del arguments["out_indices"]
            arguments["out_blocks"] = list(self.out_blocks)
        return arguments

    def build(self, arch: ViGArch, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        dim, depths = arch.embed_dims[0], arch.depths
        if self.out_blocks is None:
            self.out_blocks = tuple(sum(depths[: i + 1]) - 1 for i in self.out_indices)
        else:
            self.feature_info = self.feature_info * len(self.out_blocks)
        ends = [min(sum(depths[: i + 1]) - 1, self.out_blocks[-1]) for i in range(num_stages)]  # the last may end early
        self.whole_quarters = [i for i, end in enumerate(ends) if end in self.out_blocks]
        self.stem = GraphStem(self.in_chans, (dim // 8, dim // 4, dim // 2, dim), NATIVE)
        for i in range(num_stages):
            start = sum(depths[:i])
            blocks = []
            for j, rate in enumerate(drop_path_rates[i][: self.out_blocks[-1] + 1 - start], start):
                neighbours = 9 + 9 * j // (sum(depths) - 1)  # from 9 at the first block to 18 at the last
                blocks.append(ViGBlock(dim, neighbours, j // 4 + 1, self.options, rate))
            self.stages.append(
                Quarter(blocks, [j - start for j in self.out_blocks if 0 <= j - start < len(blocks) - 1])
            )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        image, x = x, self.stem(self.prepared(x))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if isinstance(x, tuple):
                *between, x = x
                maps += between
            if i in self.whole_quarters:
                maps.append(x)
        return tuple(in_format_of(image, y) for y in maps)


class Quarter(Stage):
    """A stage of blocks alone. It can return the outputs of blocks in its midst, too.

    Args:
        blocks: the blocks of the quarter.
        midst: numbers of the blocks whose outputs are returned besides the last, ascending.
    """

    def __init__(self, blocks: list[nn.Module], midst: list[int]):
        super().__init__(nn.Identity(), blocks, nn.Identity())
        self.midst = midst

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The last block's map (B, C, H, W); with ``midst`` a tuple of the maps of its blocks, then the last."""
        if not self.midst:
            return super().forward(x)
        parts = zip(*[self.run_through(part) for part in cpu.slices(x, self.width, self.blocks)], strict=True)
        return tuple(torch.cat(done) if len(done) > 1 else done[0] for done in parts)

    def run_through(self, x: Tensor) -> list[Tensor]:
        maps = []
        for j, block in enumerate(self.blocks):
            x = self.run_block(block, x)
            if j in self.midst:
                maps.append(x)
        return [*maps, x]
