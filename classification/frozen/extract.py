"""Computing the features of all images, in one process or in several that share the images."""

import contextlib
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_gather_object, barrier, broadcast_object_list, gather, get_dist_info, is_main_process
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from backbones.errors import UserError
from classification.frozen.cache import SPLITS, Features, check_same, read_features, writing
from classification.frozen.source import Source


def features_of(
    source: Source,
    path: Path,
    overwrite: bool = False,
    saved_in: str = "float32",
    batch_size: int = 64,
    workers: int = 0,
) -> Features | None:
    """The features of a source: those in the file ``path`` if they were made from the same things, else new ones.

    Every process of a group calls this. Process r of n computes images r, r + n, r + 2n, ...

    Args:
        source: what the features are made from.
        path: the file, see :mod:`classification.frozen.cache`. A new file is written if there is none.
        overwrite: compute anew even if there is a file.
        saved_in: ``"float32"`` or ``"float16"``.
        batch_size: number of images that a process computes at a time.
        workers: number of processes that read images, for each process of the group.

    Returns:
        The content of the file in the first process, None in the others.

    Raises:
        UserError: the file holds features of other things, or an image cannot be read, or a feature is not finite.
    """
    first, there = is_main_process(), [False]
    with contextlib.ExitStack() as stack:
        file = None
        with together():
            meta = source.describe() | {"saved_in": saved_in} if first else {}
            if first and path.exists() and not overwrite:
                check_same(path, read_features(path).meta, meta)
                there = [True]
            elif first:
                file = stack.enter_context(writing(path, meta, source.width, np.dtype(saved_in)))
        broadcast_object_list(there)
        for name in () if there[0] else SPLITS:
            fill(source, name, np.dtype(saved_in), batch_size, workers, file)
    barrier()
    return read_features(path) if first else None


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block that every process runs. After a UserError in one of them all processes raise that error.

    Without this the others would wait for the process that has gone, and end with an error of the network.
    """
    error = None
    try:
        yield
    except UserError as caught:
        error = str(caught)
    found = next(filter(None, all_gather_object(error)), None)
    if found is not None:
        raise UserError(found)


def fill(
    source: Source, name: str, saved_in: np.dtype, batch_size: int, workers: int, file: Features | None = None
) -> None:
    """Computes the features of a split. The first process writes those of all processes to ``file``."""
    dataset = source.splits[name]
    bar = tqdm(total=len(dataset), desc=name, unit="image", disable=None if file else True)
    for indices, vectors, labels in gathered(source, dataset, saved_in, batch_size, workers):
        split = getattr(file, name)
        split.features[indices] = vectors.numpy()
        split.labels[indices] = labels.numpy()
        bar.update(len(indices))
    bar.close()


def gathered(
    source: Source, dataset: Dataset, saved_in: np.dtype, batch_size: int, workers: int
) -> Iterator[tuple[range, Tensor, Tensor]]:
    """(numbers of images, their vectors (B, width), their labels (B,)), of every process in turn.

    The first process gets the results of all; the others get none.
    """
    dtype = {"float32": torch.float32, "float16": torch.float16}[saved_in.name]
    rank, world = get_dist_info()
    shares = [range(r, len(dataset), world) for r in range(world)]
    loader = DataLoader(Subset(dataset, shares[rank]), batch_size, num_workers=workers)
    batches = iter(loader)
    for step in range(ceil(len(shares[0]) / batch_size)):  # no share is longer than the first
        vectors = torch.zeros(batch_size, source.width, dtype=dtype, device=source.extractor.device)
        labels = torch.zeros(batch_size, dtype=torch.int64, device=source.extractor.device)
        with together():
            batch = next(batches, None)
            if batch is not None:
                count = len(batch["inputs"])
                vectors[:count] = source.vectors(batch["inputs"])
                labels[:count] = batch["data_samples"].to(labels.device)
            for i in (~vectors.isfinite().all(dim=1)).nonzero().flatten().tolist():
                image = image_name(dataset, shares[rank][step * batch_size + i])
                raise UserError(f"{image}: its features are not finite in {saved_in}")
        pairs = zip(gather(vectors), gather(labels), strict=True)
        for share, (values, classes) in zip(shares, pairs, strict=False):
            indices = share[step * batch_size : (step + 1) * batch_size]
            yield indices, values[: len(indices)].cpu(), classes[: len(indices)].cpu()


def image_name(dataset: Dataset, index: int) -> str:
    samples = getattr(dataset, "samples", None)
    return samples[index][0] if samples else f"image {index}"
