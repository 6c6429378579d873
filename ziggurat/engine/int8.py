"""Exports in 8-bit integers, checked: calibrated on some images, compared with PyTorch on others."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import UserError, shorten
from backbones.export import Description, Exported, errors_of, worst_of
from backbones.export.formats import files_of
from backbones.export.int8 import quantise
from backbones.images import read_image
from backbones.plain_files import check_whole
from ziggurat.engine.console import say_note
from ziggurat.engine.photographs import batch_of
from ziggurat.engine.runtimes import fitted
from ziggurat.engine.timing import in_turn, seconds

SUFFIX = ".int8.onnx"
NAME = "onnx int8"  # of the row in the table
LEAST = 8  # images
HELD_OUT = 4  # one image of so many is not used for the calibration, and compared
AGREEMENT = 0.9  # the least of a file that is kept
CPU = torch.device("cpu")


def chosen(paths: Sequence[Path], count: int, read: Callable[[Path], Any] = check_whole) -> list[Path]:
    """So many of the images, evenly spread over the list. A note names damaged ones, whose places others take.

    Args:
        paths: the images.
        count: how many are wanted.
        read: reads an image; UserError if it cannot be used. By default any image that can be decoded is.

    Raises:
        UserError: an image is absent, or fewer than 8 can be read.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f"no such image for the calibration: {path}")
    left, damaged, seen = list(paths), [], set()
    while True:
        found = [left[i * len(left) // min(count, len(left))] for i in range(min(count, len(left)))]
        unread = f" that can be read, without {shorten(damaged)}" if damaged else ""
        if len(found) < LEAST:
            raise UserError(f"the calibration has {len(found)} images{unread}; allowed: {LEAST} or more, such as 128")
        failed = [path for path in found if path not in seen and not can_read(read, path)]
        if not failed:
            if damaged:
                say_note(f"the calibration has {len(found)} images{unread}")
            return found
        seen |= {*found}
        damaged = [path for path in paths if path in {*damaged, *failed}]
        left = [path for path in left if path not in {*failed}]


def can_read(read: Callable[[Path], Any], path: Path) -> bool:
    try:
        read(path)
    except UserError:
        return False
    return True


def batches_of(subject: Any, paths: Sequence[Path], description: Description) -> Iterator[Tensor]:
    """The images as inputs of a file: prepared as for predictions, and of the file's batch and size.

    The images of a backbone are resized to the file's size. A batch that the last images do not fill is left out.
    """
    batch, size = description.batch, tuple(description.size)
    waiting: list[Tensor] = []
    for path in paths:
        if subject.prepare is None:
            shape = (1, description.channels, *size)
            image = batch_of([read_image(path)], shape, description.mean, description.std)
        else:
            image = subject.prepare(path)
        waiting.append(image if "size" in description.free else fitted(image, [], size))
        if len(waiting) == batch:
            yield torch.cat(waiting)
            waiting = []


def agreement_of(kind: str, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """How far outputs agree, 0..1: of a whole model the share of equal best classes, over images or their places.

    Of a backbone the mean cosine between the vectors of maps, from -1.
    """
    if kind == "backbone":
        return float(torch.stack([F.cosine_similarity(a, b, dim=1).mean() for a, b in zip(ours, theirs)]).mean())
    return float((ours[0].argmax(1) == theirs[0].argmax(1)).float().mean())


@torch.no_grad()
def written(
    subject: Any, net: nn.Module, source: Path, description: Description, paths: Sequence[Path], repeats: int
) -> tuple[Path, dict[str, Any]]:
    """Writes the 8-bit copy of an exported file beside it, and compares the copy with PyTorch.

    Args:
        subject: the ``ziggurat.engine.exporting.Subject`` that was exported.
        net: the network as it was recorded.
        source: the ONNX file, of float32.
        description: of that file.
        paths: images as later predictions have them. One of four is left out of the calibration and compared.
        repeats: timed calls.

    Returns:
        The new file, and what a ``Row`` of the export tells of it.

    Raises:
        UserError: the network cannot be quantised, or the results agree with PyTorch's on too few images.
    """
    if description.kind != "backbone" and len(description.outputs) > 1:
        raise UserError(f"int8 is for backbones, classifiers and segmenters, and this is {description.kind}")
    path = source.with_name(f"{source.name.removesuffix('.onnx')}{SUFFIX}")
    seen = [image for i, image in enumerate(paths) if i % HELD_OUT]
    others = list(paths[::HELD_OUT])
    while len(others) < description.batch:
        others = others * 2
    quantise(
        source,
        path,
        description._replace(quantised=f"int8, {len(seen)} images"),
        batches_of(subject, seen * max(1, -(-description.batch // len(seen))), description),
    )
    file, found, errors = Exported(path), [], []
    for x in batches_of(subject, others, description):
        ours, theirs = ([t] if isinstance(t, Tensor) else list(t) for t in (file(x), net(x)))
        found.append(agreement_of(description.kind, ours, theirs))
        errors.append(errors_of(ours, theirs))
    example = next(batches_of(subject, others, description))
    agreement = sum(found) / len(found)
    if agreement < AGREEMENT:
        raise UserError(f"{what_agrees(description.kind, agreement)}; allowed: {AGREEMENT} and more")
    timers = {
        "torch": lambda: seconds(lambda: net(example), CPU),
        "runtime": lambda: seconds(lambda: file(example), CPU),
    }
    times = in_turn(timers, repeats)
    told = dict(errors=worst_of(errors), agreement=agreement, sizes=(tuple(example.shape),))
    told |= dict(mib=sum(one.stat().st_size for one in files_of("onnx", path)) / 2**20)
    told |= dict(ms=times["runtime"]["ms"], torch_ms=times["torch"]["ms"], ratio=times["runtime"]["ratio"])
    return path, told


def what_agrees(kind: str, agreement: float) -> str:
    """A sentence on the agreement of an 8-bit file with PyTorch."""
    if kind == "backbone":
        return f"int8: the mean cosine to PyTorch's maps is {agreement:.3f}, on images that the calibration did not see"
    return f"int8: a share of {agreement:.3f} has PyTorch's best class, on images that the calibration did not see"
