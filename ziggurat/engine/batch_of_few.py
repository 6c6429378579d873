"""Batches that are larger than the training set."""

from collections.abc import Sized
from typing import Any

from mmengine.dataset import InfiniteSampler

from ziggurat.engine.console import say_note


def lowered_batch(loader: Any) -> int | None:
    """The number of images for a batch where an epoch has fewer than the config's batch; a note says so. Else None.

    With ``drop_last`` the number is even, as mixing of images needs. An endless sampler fills any batch.
    """
    batches = loader.batch_sampler
    size, sampler = getattr(batches, "batch_size", None), getattr(batches, "sampler", None)
    if size is None or not isinstance(sampler, Sized) or isinstance(sampler, InfiniteSampler):
        return None
    images = len(sampler)
    if not 0 < images < size:
        return None
    batch = images - images % 2 if images > 1 and getattr(batches, "drop_last", False) else images
    say_note(f"train_dataloader.batch_size is {size}, and there are {images} training images; a batch has {batch}")
    return batch
