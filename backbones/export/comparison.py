"""An exported file beside the network that it was made from: whether both compute the same."""

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbones.errors import UserError
from backbones.export.errors import Compare, Errors, Tolerance, errors_of, tolerance_for, worst_of
from backbones.export.exported import Exported
from backbones.export.formats import FORMATS
from backbones.export.matching import errors_of_objects
from backbones.export.program import SHOWN, Extent


class Comparison(NamedTuple):
    """What was compared.

    Attributes:
        errors: the worst over all inputs.
        objects: how many objects PyTorch finds in all inputs; None for networks that find none.
        sizes: the shapes of the images.
    """

    errors: Errors
    objects: int | None
    sizes: tuple[tuple[int, ...], ...]


def shapes_of(extent: Extent) -> list[tuple[int, int, int, int]]:
    """Up to three shapes of inputs on which an export is compared, that of the extent first.

    Free axes have several lengths, as converters may keep one that a network computes with.
    """
    (height, width), batch = extent.size, extent.batch
    shapes = [(batch, height, width), (batch, height, width), (batch, height, width)]
    if "size" in extent.free:
        shapes[1:] = [(batch, height + 32, width + 64), (batch, height * 5 // 4 + 3, width + 17)]
    if "batch" in extent.free:
        shapes[1:] = [(n, *shape[1:]) for n, shape in zip((batch + 1, batch + 2), shapes[1:], strict=True)]
    return [(n, extent.channels, h, w) for n, h, w in dict.fromkeys(shapes)]


@torch.no_grad()
def compared(file: Exported, net: nn.Module, images: Sequence[Tensor], dtype: str = "float32") -> Comparison:
    """Compares a file with its network.

    Args:
        file: the file. If it takes the image's size, a partly filled copy of the first image is compared, too.
        net: the network as it was recorded.
        images: (B, C, H, W) each, of ``dtype``. Those after the first are left out where PyTorch takes no such size.
        dtype: of the weights, such as ``"float32"``.

    Raises:
        UserError: the runtime fails, or the results differ by more than the tolerance.
    """
    has_objects = "boxes" in file.description.outputs
    side = max(max(x.shape[2:]) for x in images)
    compare: Compare = partial(errors_of_objects, side=side) if has_objects else errors_of
    several: list[tuple[Tensor, ...]] = [(x,) for x in images]
    if SHOWN in file.description.inputs:
        several.append(partly_filled(images[0]))
    inputs, theirs = several[:1], [outputs_of(net, *several[0])]
    for x in several[1:]:
        with contextlib.suppress(RuntimeError):  # a neck may take multiples of its strides alone
            theirs.append(outputs_of(net, *x))
            inputs.append(x)
    if not all(t.isfinite().all() for t in theirs[0]):
        raise UserError("PyTorch's own outputs are not finite, so there is nothing to compare; allowed: other weights")
    worst = worst_of(compare(file(*x), found) for x, found in zip(inputs, theirs, strict=True))
    tolerance = tolerance_for(net, dtype, inputs, compare)
    if has_objects and not worst.within(tolerance):  # as an order of nearly equal scores changes by rounding
        tolerance = tolerance_for(net, dtype, inputs, compare, by_own=True)
    if not worst.within(tolerance):
        if not compare(outputs_of(net, *inputs[0]), theirs[0]).within(tolerance):
            raise UserError("the network draws random numbers: PyTorch's own outputs differ from call to call")
        raise UserError(f"{FORMATS[file.format].runtime} {difference(worst, tolerance, has_objects)}")
    objects = sum(int((scores > 0).sum()) for _, scores, *_ in theirs) if has_objects else None
    return Comparison(worst, objects, tuple(tuple(x.shape) for x, *_ in inputs))


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


def difference(worst: Errors, tolerance: Tolerance, has_objects: bool) -> str:
    """What is wrong with a file."""
    errors = f"max error {worst.largest:.2g}, mean {worst.mean:.2g}"
    allowed = f"{tolerance.largest:.2g} and {tolerance.mean:.2g}"
    if has_objects:
        only = f"{worst.missed:.1%} are found by one of the two, {errors} of the rest"
        return f"finds other objects than PyTorch: {only}; allowed: {tolerance.missed:.1%}, {allowed}"
    return f"computes other values than PyTorch: {errors} of the largest value; allowed: {allowed}"
