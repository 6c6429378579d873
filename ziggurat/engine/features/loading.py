"""Reading images in workers, and putting those of one size together."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbones.checks import MIN_SIZE
from backbones.errors import UserError
from backbones.features import tensor_of
from backbones.reading import Reading
from backbones.store.lock import leave_locks
from ziggurat.engine.features.sources import StoredImage
from ziggurat.engine.loader_workers import fault_of_workers
from ziggurat.engine.processes import end_with_parent

BATCH_SIZE = 32
BATCH_PIXELS = 8 << 20  # of a batch whose size nobody chose: 32 images of 512x512, 2 of 2048x2048
WAITING_BYTES = 512 << 20  # of images that wait for others of their size


class Batch(NamedTuple):
    """Images of one size: their numbers, and their pixels, uint8 (B, C, H, W)."""

    numbers: list[int]
    pixels: Tensor


class Unreadable(NamedTuple):
    """An image that cannot be read: its number, and why."""

    number: int
    reason: str


class Pixels(Dataset):
    """The pixels of images, uint8 (C, H, W), or the reason why an image has none.

    Args:
        images: what is read.
        reading: the rule by which it is read.
        resized: whether images are resized later. If not, one with a side below 32 pixels is refused.
    """

    def __init__(self, images: Sequence[StoredImage], reading: Reading, resized: bool):
        self.images, self.reading, self.resized = images, reading, resized

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Tensor | str:
        image = self.images[number]
        try:
            pixels = tensor_of(image.pixels(self.reading), self.reading.channels, image.name)
        except UserError as error:
            return str(error)
        height, width = pixels.shape[1:]
        least = 1 if self.resized else MIN_SIZE
        if min(height, width) < least:
            return f"{image.name} is {height}x{width} pixels; allowed: {least}x{least} and larger"
        return pixels


def loaded(
    images: Sequence[StoredImage], reading: Reading, resized: bool, workers: int
) -> Iterator[tuple[int, Tensor | str]]:
    """Each image's number, and its pixels or the reason why it has none, in order.

    Args:
        images, reading, resized: as for :class:`Pixels`.
        workers: processes that read, 0 or more. With 0 this process reads.

    Raises:
        UserError: a worker was killed, or has no place in shared memory.
    """
    pixels = Pixels(images, reading, resized)
    if not workers or len(images) < 2:
        yield from enumerate(map(pixels.__getitem__, range(len(pixels))))
        return
    how = {"num_workers": min(workers, len(images)), "prefetch_factor": 8, "worker_init_fn": start_worker}
    try:
        loader = DataLoader(pixels, None, collate_fn=as_array, **how)
        for number, found in enumerate(loader):
            yield number, found if isinstance(found, str) else torch.from_numpy(found)
    except (RuntimeError, OSError) as error:
        if not (fault := fault_of_workers(error)):
            raise
        raise UserError(f"{fault.replace('num_workers', '--workers')}; the same command then goes on") from error


def as_array(found: Tensor | str) -> np.ndarray | str:
    """What a worker sends. Each tensor would keep a file open, and many may wait for others of their size."""
    return found if isinstance(found, str) else found.numpy()


def start_worker(worker: int) -> None:
    """A worker ends with its process, leaves the store's lock to it, and Ctrl-C as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    leave_locks()


def default_size(height: int, width: int) -> int:
    """The images of a batch whose size nobody chose: fewer of large images."""
    return max(1, min(BATCH_SIZE, BATCH_PIXELS // (height * width)))


def batches(
    items: Iterable[tuple[int, Tensor | str]],
    size_of: Callable[[int, int], int] = default_size,
    waiting_bytes: int = WAITING_BYTES,
) -> Iterator[Batch | Unreadable]:
    """Batches of images of one size, and unreadable images.

    Args:
        items: as :func:`loaded` gives them.
        size_of: gives the images of a batch, by their height and width. The last batch of a size may have fewer.
        waiting_bytes: if more is waiting for images of the same size, the largest groups of images become batches.
    """
    waiting: dict[tuple[int, ...], Batch] = {}
    held = 0
    for number, pixels in items:
        if isinstance(pixels, str):
            yield Unreadable(number, pixels)
            continue
        shape = tuple(pixels.shape)
        group = waiting.setdefault(shape, Batch([], []))
        group.numbers.append(number)
        group.pixels.append(pixels)
        held += pixels.nbytes
        if len(group.numbers) >= size_of(*shape[1:]):
            held -= len(group.numbers) * pixels.nbytes
            yield stacked(waiting.pop(shape))
        while held > waiting_bytes:
            largest = max(waiting, key=lambda shape: len(waiting[shape].numbers))
            held -= sum(one.nbytes for one in waiting[largest].pixels)
            yield stacked(waiting.pop(largest))
    yield from map(stacked, waiting.values())


def stacked(group: Batch) -> Batch:
    return Batch(group.numbers, torch.stack(group.pixels))
