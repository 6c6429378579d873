"""A network recorded by ``torch.export``: the one graph that all formats are made of."""

import copy
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbones.checks import MAX_CHANS, MIN_SIZE, check_int
from backbones.errors import UserError, one_line, shown
from backbones.export.pooling import free_pools
from backbones.graph_layers import Grapher
from backbones.ops import GlobalFilter
from backbones.pyramid import PyramidBackbone

FREE = ("batch", "size")
IMAGE, SHOWN = "image", "shown"  # the names of inputs, in their order. All networks take the first
# Pixels of a free side of an example. Maps of stride 128 have two rows, DINO has more places than its 900 queries, and
# a node of a graph network has as many others as it asks for. With less of them, their number would be kept.
LEAST_FREE = 256
ALL_AT_ONCE = 1 << 50  # bytes: a graph for free sizes has no blocks of rows, so all its similarities must be allowed


class Extent(NamedTuple):
    """The inputs that an export is made for.

    Attributes:
        size: height and width in pixels, each 32 or more.
        batch: number of images.
        free: which of ``"batch"`` and ``"size"`` later inputs may have otherwise.
        channels: of the input.
    """

    size: tuple[int, int] = (224, 224)
    batch: int = 1
    free: tuple[str, ...] = ()
    channels: int = 3

    def check(self) -> "Extent":
        """The extent in plain types; UserError if a value is out of its range."""
        size = tuple(self.size) if isinstance(self.size, list | tuple) else ()
        if len(size) != 2:
            raise UserError(f"size is {shown(self.size)}; allowed: height and width in pixels")
        height, width = (check_int("size", side, MIN_SIZE, None) for side in size)
        free = tuple(self.free)
        if set(free) - set(FREE):
            raise UserError(f"free is {shown(self.free)}; allowed: {', '.join(FREE)}")
        channels = check_int("channels", self.channels, 1, MAX_CHANS)
        return Extent((height, width), check_int("batch", self.batch, 1, None), free, channels)

    def example(self) -> tuple[int, int, int, int]:
        """The shape of the input with which the network is recorded.

        Free sides differ and are ``LEAST_FREE`` or more, and a free batch has several images: ``torch.export`` may
        take equal numbers for the same one, and 1 for a constant.
        """
        height, width = self.size
        if "size" in self.free:
            height, width = max(height, LEAST_FREE), max(width, LEAST_FREE)
            width += MIN_SIZE if height == width else 0
        batch = max(2, self.batch) if "batch" in self.free else self.batch
        return batch, self.channels, height, width


def prepared(net: nn.Module, fuse: bool = True, free: bool = False) -> nn.Module:
    """A copy of a network, ready to be recorded, in eval mode.

    Args:
        net: a backbone, or a model that has one.
        fuse: fold norms into convolutions.
        free: prepare for free sizes. Graph networks then hold all similarities of a map at a time.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for module in list(net.modules()):
        if isinstance(module, PyramidBackbone) and fuse:
            module.fuse()
        elif isinstance(module, GlobalFilter):
            module.fft = None  # which a graph computes by matrix products
        elif isinstance(module, Grapher) and free:
            module.options = module.options._replace(budget=ALL_AT_ONCE)
    if free:
        free_pools(net)
    return net.eval()


@torch.no_grad()
def record(net: nn.Module, extent: Extent) -> torch.export.ExportedProgram:
    """Records a network for inputs of ``extent``, in the type and on the device of its weights.

    A network with an attribute ``inputs`` that names ``shown`` takes a second input: a tensor (2,) with the height and
    width of the image, which lies at the top left of the first input.

    Raises:
        UserError: a value of ``extent`` is not allowed, or ``torch.export`` refuses the network.
    """
    extent = extent.check()
    examples = examples_for(net, extent)
    axes = {0: "batch", 2: "size", 3: "size"}
    free = {axis: torch.export.Dim.DYNAMIC for axis, name in axes.items() if name in extent.free}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(net, examples, dynamic_shapes=(free or None, None)[: len(examples)])
    except UserError:
        raise
    except Exception as error:
        what = f" for a free {' and '.join(extent.free)}" if extent.free else ""
        raise UserError(f"torch.export cannot record {type(net).__name__}{what}: {one_line(error)}") from error


def example_for(net: nn.Module, extent: Extent) -> Tensor:
    """An input of noise, of the type and on the device of the network's weights."""
    weight = next(net.parameters())
    noise = torch.randn(extent.example(), generator=torch.Generator().manual_seed(0))
    return noise.to(weight.device, weight.dtype)


def examples_for(net: nn.Module, extent: Extent) -> tuple[Tensor, ...]:
    """An example of each input: noise, and for a second input the size of the first."""
    image = example_for(net, extent)
    return (image, image.new_tensor(image.shape[-2:])) if SHOWN in input_names(net) else (image,)


def input_names(net: nn.Module) -> tuple[str, ...]:
    """The names of a network's inputs: that of the image, and maybe that of its height and width."""
    return tuple(getattr(net, "inputs", (IMAGE,)))
