"""Pictures of what a network computes: maps as colours, likeness to a position, and what each family's blocks look at.

look = Look(net, image)  # (1, C, H, W), normalised
colours(look.maps[2])  # PIL images, also in notebooks
likeness(look.maps[2], row=7, column=7)
look.neighbours(stage=2, block=0, row=7, column=7)  # ViG and PViG: the positions of a node's neighbours
look.gates(2, 0), look.filters(2, 0)  # HorNet
look.attention(2, 0)  # VAN
look.vicinity(2, 0, row=7, column=7)  # VVT
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from backbones.checks import as_int
from backbones.colours import pca_colours
from backbones.errors import UserError
from backbones.gated_conv import GatedConv, GlobalLocalFilter
from backbones.graph_layers import Grapher
from backbones.ops.vicinity import angle_cos_sin
from backbones.pyramid import PyramidBackbone
from backbones.stage import Stage
from backbones.van import LargeKernelAttention
from backbones.vvt import VicinityAttention

LINE, NODE = (255, 200, 0), (255, 40, 40)
KEPT = 256 * 2**20  # bytes of a forward pass that a Look keeps at most
# What the views read of a forward pass: modules of a kind of block, by their names in it.
READ = {
    Grapher: ("fc1", "graph"),
    LargeKernelAttention: ("pw",),
    GatedConv: ("dwconv",),
    VicinityAttention: ("q_proj", "k_proj"),
}
Seen = tuple[tuple[Any, ...], Any]  # the arguments of a module, and what it returned
# From dark blue over green to yellow: colours of values from 0 to 1, between which others are mixed.
SCALE = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)


class Look:
    """A network's computation for one image.

    Args:
        net: a backbone. Its mode is set to eval while it computes.
        image: (1, C, H, W), normalised, on the network's device.
        whole: take the maps of all stages that are built, whatever ``out_indices`` are, and keep what the views read,
            up to 256 MiB. A view then needs no further forward pass, unless it reads what did not fit.

    Attributes:
        maps: the returned maps (C, H, W), finest first.

    Raises:
        UserError: the image is none, or there are several.
    """

    def __init__(self, net: PyramidBackbone, image: Tensor, whole: bool = False):
        if not isinstance(image, Tensor) or image.ndim != 4 or len(image) != 1:
            shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise UserError(f"the image is {shape}; allowed: one image (1, C, H, W)")
        self.net, self.image = net, image
        self.kept: dict[nn.Module, Seen] = {}
        if not whole:
            self.maps = [found[0] for found in self.run()[0]]
            return
        self.forward([*net.stages, *read_by_views(net)], KEPT)
        outs = [self.kept.pop(stage)[1] for stage in net.stages]
        with torch.no_grad():
            self.maps = [net.output(i, out[-1] if isinstance(out, tuple) else out)[0] for i, out in enumerate(outs)]

    def run(self, *modules: nn.Module) -> tuple[tuple[Tensor, ...] | None, list[Seen]]:
        """The network's maps, and for each of ``modules`` its arguments and what it returned.

        If these are kept, the network does not run, and the maps are None.
        """
        if modules and all(module in self.kept for module in modules):
            return None, [self.kept[module] for module in modules]
        before, self.kept = self.kept, {}
        try:
            maps = self.forward(modules)
            return maps, [self.kept[module] for module in modules]
        finally:
            self.kept = before

    @torch.no_grad()
    def forward(self, modules: Sequence[nn.Module], most: float = math.inf) -> tuple[Tensor, ...]:
        """The network's maps. What the modules get and return is kept; of blocks only until it has ``most`` bytes."""
        size = 0

        def keep(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            nonlocal size
            more = 0 if isinstance(module, Stage) else sum(t.nbytes for t in (*given, out) if isinstance(t, Tensor))
            if size + more <= most:
                size += more
                self.kept[module] = (given, out)

        hooks = [module.register_forward_hook(keep) for module in modules]
        training = self.net.training
        try:
            return self.net.eval()(self.image)
        finally:
            self.net.train(training)
            for hook in hooks:
                hook.remove()

    def part(self, stage: int, block: int, kind: type, what: str) -> Any:
        """The module of a kind in a block; UserError if there is no such block, or if the family has no such module."""
        stages = self.net.stages
        if as_int(stage) not in range(len(stages)):
            raise UserError(f"stage is {stage!r}; allowed: 0 to {len(stages) - 1} of {self.net.arch}")
        blocks = stages[stage].blocks
        if as_int(block) not in range(len(blocks)):
            raise UserError(f"block is {block!r}; allowed: 0 to {len(blocks) - 1} of stage {stage} of {self.net.arch}")
        found = next((module for module in blocks[block].modules() if isinstance(module, kind)), None)
        if found is None:
            raise UserError(f"stage {stage} of {self.net.arch} has no {what}")
        return found

    def neighbours(self, stage: int, block: int, row: int, column: int) -> Tensor:
        """(K, 2): the rows and columns, on the block's map, of the neighbours that ViG's graph chooses for a node.

        Where the candidates are pooled, these are the middles of the pooled windows.
        """
        grapher = self.part(stage, block, Grapher, "graph")
        _, [(_, x), ((_, _, index), _)] = self.run(grapher.fc1, grapher.graph)
        height, width = x.shape[2:]
        check_place(row, column, height, width)
        chosen = index[0, row * width + column]
        columns = -(-width // grapher.ratio)
        corner = torch.stack((chosen // columns, chosen % columns), dim=1) * grapher.ratio
        last = torch.tensor([height, width], device=corner.device) - 1
        return (corner + torch.minimum(corner + grapher.ratio - 1, last)) / 2

    def attention(self, stage: int, block: int) -> Tensor:
        """(C, H, W): the factors that VAN's large kernel gives for each channel and position."""
        attention = self.part(stage, block, LargeKernelAttention, "large-kernel attention")
        return self.run(attention.pw)[1][0][1][0]

    def gates(self, stage: int, block: int) -> list[Tensor]:
        """The gates of HorNet's recursive products, (C_i, H, W) each, in their order."""
        gated = self.part(stage, block, GatedConv, "gated convolution")
        out = self.run(gated.dwconv)[1][0][1][0]
        return list((out * gated.scale).split(gated.dims))

    def filters(self, stage: int, block: int) -> Tensor:
        """(C, h, w): the magnitudes of HorNet's global filters by frequency, the lowest in the middle of the rows."""
        found = self.part(stage, block, GlobalLocalFilter, "global filter")
        magnitude = torch.view_as_complex(found.complex_weight.detach()).abs()
        return magnitude.roll(magnitude.shape[1] // 2, dims=1)

    def vicinity(self, stage: int, block: int, row: int, column: int, head: int = 0) -> Tensor:
        """(H, W), sum 1: how much each position counts for one, by VVT's vicinity attention, in one head."""
        attention = self.part(stage, block, VicinityAttention, "vicinity attention")
        _, [(_, q), (_, k)] = self.run(attention.q_proj, attention.k_proj)
        if as_int(head) not in range(attention.num_heads):
            raise UserError(f"head is {head!r}; allowed: 0 to {attention.num_heads - 1}")
        q, k = (y[0].unflatten(0, (attention.num_heads, -1))[head].relu() for y in (q, k))  # (d, H, W)
        height, width = q.shape[1:]
        check_place(row, column, height, width)
        (cos_y, sin_y), (cos_x, sin_x) = angle_cos_sin(height, q), angle_cos_sin(width, q)
        near_y = cos_y * cos_y[row] + sin_y * sin_y[row]
        near_x = cos_x * cos_x[column] + sin_x * sin_x[column]
        weights = torch.einsum("d,dhw->hw", q[:, row, column], k) * (near_y[:, None] + near_x)
        return weights / weights.sum().clamp_min(1e-12)


def read_by_views(net: nn.Module) -> list[nn.Module]:
    """The modules of a network whose arguments or outputs the views of :class:`Look` read."""
    return [
        getattr(module, name)
        for module in net.modules()
        for kind, names in READ.items()
        if isinstance(module, kind)
        for name in names
    ]


def check_place(row: int, column: int, height: int, width: int) -> None:
    """Raises UserError for a position outside a map."""
    for name, value, size in (("row", row, height), ("column", column, width)):
        if as_int(value) not in range(size):
            raise UserError(f"{name} is {value!r}; allowed: 0 to {size - 1} of a map of {height}x{width}")


def colours(feature_map: Tensor, size: tuple[int, int] | None = None) -> Image.Image:
    """A map (C, H, W) with its first three principal components as red, green and blue.

    Args:
        feature_map: of three channels or more.
        size: width and height of the picture; None is a pixel for each position.
    """
    if feature_map.ndim != 3 or len(feature_map) < 3:
        raise UserError(f"the map is {tuple(feature_map.shape)}; allowed: (C, H, W) with 3 channels or more")
    return sized(Image.fromarray(pca_colours(feature_map)), size)


def heat(values: Tensor, size: tuple[int, int] | None = None) -> Image.Image:
    """Values (H, W) as colours, from dark blue, the least, over green to yellow, the most."""
    if values.ndim != 2:
        raise UserError(f"the values are {tuple(values.shape)}; allowed: (H, W)")
    numbers = values.detach().double().cpu().numpy()
    low, high = numbers.min(), numbers.max()
    place = (numbers - low) / max(high - low, 1e-12) * (len(SCALE) - 1)
    lower = place.astype(int).clip(max=len(SCALE) - 2)
    mixed = SCALE[lower] + (SCALE[lower + 1] - SCALE[lower]) * (place - lower)[..., None]
    return sized(Image.fromarray(mixed.round().astype(np.uint8)), size)


def channel(feature_map: Tensor, number: int, size: tuple[int, int] | None = None) -> Image.Image:
    """One channel of a map (C, H, W), by :func:`heat`."""
    if as_int(number) not in range(len(feature_map)):
        raise UserError(f"channel is {number!r}; allowed: 0 to {len(feature_map) - 1}")
    return heat(feature_map[number], size)


def likeness(feature_map: Tensor, row: int, column: int) -> Tensor:
    """(H, W), -1 to 1: the cosine similarity of each position of a map (C, H, W) to one."""
    check_place(row, column, *feature_map.shape[1:])
    unit = F.normalize(feature_map.float(), dim=0)
    return torch.einsum("c,chw->hw", unit[:, row, column], unit)


def strength(feature_map: Tensor) -> Tensor:
    """(H, W): the root mean square over the channels of a map (C, H, W)."""
    return feature_map.float().square().mean(0).sqrt()


def lines(image: Image.Image, node: tuple[float, float], others: Tensor, shape: tuple[int, int]) -> Image.Image:
    """A copy of an image with a line from a node of a map to each of ``others``.

    Args:
        image: RGB, the image that the map is of.
        node: row and column on the map.
        others: (K, 2), rows and columns.
        shape: height and width of the map.
    """
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    scale_y, scale_x = drawn.height / shape[0], drawn.width / shape[1]
    start, *ends = [((column + 0.5) * scale_x, (row + 0.5) * scale_y) for row, column in (node, *others.tolist())]
    width = max(1, round(min(drawn.size) / 200))
    for end in ends:
        draw.line([start, end], fill=LINE, width=width)
    for end in ends:
        draw.circle(end, 2 * width, fill=LINE)
    draw.circle(start, 3 * width, fill=NODE)
    return drawn


def sized(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    return image if size is None else image.resize(size, Image.Resampling.NEAREST)
