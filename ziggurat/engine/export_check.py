"""The check of an exported file: on photographs, beside PyTorch, with the time that both take."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbones.export import Description, Errors, Exported, Extent
from backbones.export.comparison import compared, shapes_of
from backbones.export.formats import files_of
from ziggurat.engine.photographs import batch_of, photographs
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


def inputs_of(extent: Extent, description: Description) -> list[Tensor]:
    """Photographs on which a file is compared. One that finds objects gets each photograph, in one of the sizes."""
    pictures, _ = photographs()
    shapes = shapes_of(extent)
    chosen = [(pictures, shape) for shape in shapes]
    if "boxes" in description.outputs:
        chosen = [([picture], shapes[i % len(shapes)]) for i, picture in enumerate(pictures)]
    return [batch_of(several, shape, description.mean, description.std) for several, shape in chosen]


@torch.no_grad()
def checked(name: str, path: Path, net: nn.Module, inputs: Sequence[Tensor], dtype: str, repeats: int) -> Row:
    """Runs an exported file beside the network.

    Raises:
        UserError: the runtime fails, or the results differ by more than the tolerance.
    """
    exported = Exported(path)
    found = compared(exported, net, inputs, dtype)
    timers = {
        "torch": lambda: seconds(lambda: net(inputs[0]), CPU),
        "runtime": lambda: seconds(lambda: exported(inputs[0]), CPU),
    }
    times = in_turn(timers, repeats)
    mib = sum(file.stat().st_size for file in files_of(name, path)) / 2**20
    row = Row(name, path, mib, found.errors, found.objects, found.sizes)
    return row._replace(ms=times["runtime"]["ms"], torch_ms=times["torch"]["ms"], ratio=times["runtime"]["ratio"])
