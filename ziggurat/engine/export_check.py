"""The check of an exported file: on photographs, beside PyTorch, with the time that both take."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.export import FORMATS, Errors, Exported, Extent, errors_of, errors_of_objects, tolerance_for, worst_of
from backbones.export.errors import Compare, Tolerance
from backbones.export.formats import files_of
from backbones.export.program import SHOWN
from ziggurat.engine.timing import in_turn, seconds

CPU = torch.device("cpu")


class Row(NamedTuple):
    """One format of an export.

    Attributes:
        name: the format.
        path: the file; None if it was refused.
        mib: its size.
        errors: the worst over all inputs.
        objects: how many objects PyTorch finds in all inputs; None for networks that find none.
        sizes: the shapes of the inputs that were compared.
        ms, torch_ms: median milliseconds of the runtime and of PyTorch for the first input.
        ratio: how many times faster than PyTorch the runtime is.
        refused: why there is no file.
        agreement: of an 8-bit file, see ``ziggurat.engine.int8.agreement_of``.
    """

    name: str
    path: Path | None = None
    mib: float | None = None
    errors: Errors | None = None
    objects: int | None = None
    sizes: tuple[tuple[int, ...], ...] = ()
    ms: float | None = None
    torch_ms: float | None = None
    ratio: float | None = None
    refused: str | None = None
    agreement: float | None = None


def shapes_of(extent: Extent) -> list[tuple[int, int, int, int]]:
    """Up to three shapes of inputs on which an export is compared, that of the extent first."""
    (height, width), batch = extent.size, extent.batch
    shapes = [(batch, height, width), (batch, height, width), (batch, height, width)]
    if "size" in extent.free:
        shapes[1:] = [(batch, height + 32, width + 64), (batch, height * 5 // 4 + 3, width + 17)]
    if "batch" in extent.free:
        shapes[1:] = [(n, *shape[1:]) for n, shape in zip((batch + 1, batch + 2), shapes[1:], strict=True)]
    return [(n, extent.channels, h, w) for n, h, w in dict.fromkeys(shapes)]


def inputs_of(extent: Extent, pictures: list[Any], single: bool) -> list[tuple[list[Any], tuple[int, ...]]]:
    """The pictures of each compared input, and its shape. ``single``: an input for each picture."""
    shapes = shapes_of(extent)
    return [([picture], shapes[0]) for picture in pictures] if single else [(pictures, shape) for shape in shapes]


def partly_filled(x: Tensor) -> tuple[Tensor, Tensor]:
    """A copy of an input whose last quarter of rows and columns is filling, and the image's height and width."""
    height, width = (side - side // 4 for side in x.shape[2:])
    x = x.clone()
    x[:, :, height:] = 0
    x[:, :, :, width:] = 0
    return x, x.new_tensor([height, width])


def outputs_of(net: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """The outputs of a network; UserError unless they are one tensor, or several in a list or tuple."""
    found = net(*inputs)
    found = [found] if isinstance(found, Tensor) else found
    if not isinstance(found, list | tuple) or not all(isinstance(output, Tensor) for output in found):
        raise UserError("the model's output is no tensor; allowed: models with tensors as outputs, or --backbone")
    return list(found)


@torch.no_grad()
def checked(name: str, path: Path, net: nn.Module, inputs: Sequence[Tensor], dtype: str, repeats: int) -> Row:
    """Runs an exported file beside the network. A file that is told the image's size also gets a smaller image.

    Raises:
        UserError: the runtime fails, or the results differ by more than the tolerance.
    """
    exported = Exported(path)
    has_objects = "boxes" in exported.description.outputs
    compare: Compare = partial(errors_of_objects, side=max(exported.description.size)) if has_objects else errors_of
    several: list[tuple[Tensor, ...]] = [(x,) for x in inputs]
    if SHOWN in exported.description.inputs:
        several.append(partly_filled(inputs[0]))
    theirs = [outputs_of(net, *x) for x in several]
    if not all(t.isfinite().all() for t in theirs[0]):
        raise UserError("PyTorch's own outputs are not finite, so there is nothing to compare; allowed: other weights")
    objects = sum(int((scores > 0).sum()) for _, scores, *_ in theirs) if has_objects else None
    worst = worst_of(compare(exported(*x), found) for x, found in zip(several, theirs, strict=True))
    tolerance = tolerance_for(net, dtype, several, compare)
    if has_objects and not worst.within(tolerance):  # as an order of nearly equal scores changes by rounding
        tolerance = tolerance_for(net, dtype, several, compare, by_own=True)
    if not worst.within(tolerance):
        raise UserError(f"{FORMATS[name].runtime} {difference(worst, tolerance, has_objects)}")
    timers = {
        "torch": lambda: seconds(lambda: net(inputs[0]), CPU),
        "runtime": lambda: seconds(lambda: exported(inputs[0]), CPU),
    }
    times = in_turn(timers, repeats)
    mib = sum(file.stat().st_size for file in files_of(name, path)) / 2**20
    sizes = tuple(tuple(x.shape) for x, *_ in several)
    row = Row(name, path, mib, worst, objects, sizes)
    return row._replace(ms=times["runtime"]["ms"], torch_ms=times["torch"]["ms"], ratio=times["runtime"]["ratio"])


def difference(worst: Errors, tolerance: Tolerance, has_objects: bool) -> str:
    """What is wrong with a file."""
    errors = f"max error {worst.largest:.2g}, mean {worst.mean:.2g}"
    allowed = f"{tolerance.largest:.2g} and {tolerance.mean:.2g}"
    if has_objects:
        only = f"{worst.missed:.1%} are found by one of the two, {errors} of the rest"
        return f"finds other objects than PyTorch: {only}; allowed: {tolerance.missed:.1%}, {allowed}"
    return f"computes other values than PyTorch: {errors} of the largest value; allowed: {allowed}"
