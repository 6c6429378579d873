"""Random numbers that depend on the run's seed and on the place in the training, and on nothing else.

A training step and a sample each start their own random numbers. So a resumed run draws what the uninterrupted run
draws, in the middle of an epoch too, with any number of loader workers. Several processes augment a sample as one does.
"""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler

SEEDS = 2**32  # NumPy's seeds are below


def seed_of(*place: int) -> int:
    """A seed for a place, e.g. (seed of the run, epoch, position). Neighbouring places get unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=4).digest(), "little")


def seed_all(seed: int) -> None:
    """Seeds Python's, NumPy's and PyTorch's random numbers of this process, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class SampleIndex(int):
    """An index into a data set that carries the seed of the sample's random numbers."""

    seed: int

    def __new__(cls, index: int, seed: int) -> "SampleIndex":
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleIndex, (int(self), self.seed)


@DATA_SAMPLERS.register_module(force=True)
class SeededBatches(BatchSampler):
    """The batches of another batch sampler, whose indices carry seeds.

    A seed depends on the run's seed, the epoch, and the sample's position in the order of all processes together.

    Args:
        sampler: gives the indices.
        batch_size: images in a batch.
        drop_last: leave out a last batch that is not full.
        inner: config of another batch sampler, e.g. one that groups images of similar shape.

    Attributes:
        seed: the run's seed.
        skip: the number of batches still to leave out, since a resumed run has trained on them.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False, inner: dict[str, Any] | None = None):
        super().__init__(sampler, batch_size, drop_last)
        if inner is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.inner = DATA_SAMPLERS.build(inner, default_args=dict(sampler=sampler, batch_size=batch_size))
        self.seed = self.skip = 0

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        rank, processes, epoch = get_rank(), get_world_size(), getattr(self.sampler, "epoch", 0)
        position = 0
        for batch in self.inner:
            if self.skip:
                self.skip -= 1
            else:
                places = range(position * processes + rank, (position + len(batch)) * processes + rank, processes)
                yield [SampleIndex(i, seed_of(self.seed, epoch, place)) for i, place in zip(batch, places, strict=True)]
            position += len(batch)

    def __len__(self) -> int:
        return len(self.inner)


def with_seeded_items(made: Any) -> Any:
    """A data set whose items start their random numbers from the seeds of their indices.

    Args:
        made: a data set, whose class changes, or a class, of which an empty data set is made.
    """
    kind = made if isinstance(made, type) else type(made)

    def getitem(self: Any, index: int) -> Any:
        if isinstance(index, SampleIndex):
            seed_all(index.seed)
        return kind.__getitem__(self, index)

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:  # for loader workers that are not forked
        return with_seeded_items, (kind,), vars(self)

    dataset = kind.__new__(kind) if made is kind else made
    # The same name, since messages show it. Without new slots Python takes the new class for a made instance.
    names = {"__module__": kind.__module__, "__slots__": (), "__getitem__": getitem, "__reduce_ex__": reduce}
    dataset.__class__ = type(kind.__name__, (kind,), names)
    return dataset


def seeded_batches(loader: dict[str, Any]) -> dict[str, Any]:
    """A loader's config with seeded batches. A loader without a sampler, for a stream of images, stays."""
    if not isinstance(loader.get("sampler"), dict):
        return loader
    batches = dict(type="SeededBatches", drop_last=loader.get("drop_last", False), inner=loader.get("batch_sampler"))
    rest = {key: value for key, value in loader.items() if key != "drop_last"}
    return {**rest, "batch_sampler": batches}


@HOOKS.register_module(force=True)
class SeedHook(Hook):
    """Starts the random numbers of every training step, and the order of images where a resumed run goes on.

    Attributes:
        images: how many images of the epoch all processes have seen; with a loop of iterations, how many of the run. A
            checkpoint keeps the number, so that batches of another size go on at the same image.
    """

    priority = "HIGHEST"  # before the checkpoint of an epoch's end is saved

    def __init__(self) -> None:
        self.seed = self.step = 0
        self.images: int | None = 0

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if runner.cfg.get("resume"):
            self.images = checkpoint["meta"].get("images")

    def before_train(self, runner: Any) -> None:
        # The seeds of processes may differ, and the order of images must be that of one.
        seed = torch.tensor(runner.seed)
        broadcast(seed)
        self.seed = int(seed)
        batches = runner.train_dataloader.batch_sampler
        if isinstance(batches, SeededBatches):
            batches.seed = self.seed
            if hasattr(batches.sampler, "seed"):
                batches.sampler.seed = self.seed
            self.step = batches.batch_size * get_world_size()
            if self.images is None:  # of a checkpoint that mmengine wrote: by epochs, or after so many batches
                by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
                self.images = 0 if by_epoch else runner.iter * self.step
            batches.skip = self.images // self.step
            runner.train_loop.fast_forward_on_resume = True  # an IterBasedTrainLoop would skip the batches once more

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        seed_all(seed_of(self.seed, get_rank(), runner.iter))

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.images += self.step

    def after_train_epoch(self, runner: Any) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self.images = 0
