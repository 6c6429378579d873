"""Features of images into a store: what a run is made of, and the loop over its batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backbones import FeatureExtractor, __version__
from backbones.errors import UserError
from backbones.pooling import pool_of
from backbones.store import StoreWriter
from backbones.weights.identity import weights_sha256
from ziggurat.engine.features.loading import Batch, Unreadable, batches, default_size, loaded
from ziggurat.engine.features.sources import StoredImage


class Counts(NamedTuple):
    """How many images a run wrote, and how many it could not read."""

    written: int
    unreadable: int


def settings_of(
    extractor: FeatureExtractor, weights: str | None, pool: str | None, dtype: str, which: str | None = None
) -> dict[str, Any]:
    """All that features follow from, but the images.

    Args:
        extractor: the network and its preprocessing.
        weights: where the network's weights come from; None for random ones.
        pool: as for :func:`backbones.pooling.pool_of`; None for maps.
        dtype: the type of the features, a key of ``backbones.store.writer.DTYPES``.
        which: the set of weights, as for ``create_backbone``.
    """
    info = zip(extractor.net.out_indices, extractor.feature_info, strict=True)
    return {
        "arch": extractor.net.arch,
        "weights_sha256": weights_sha256(extractor.net, weights),
        "which": which,
        "stages": {f"stage{i}": {"channels": one.channels, "stride": one.stride} for i, one in info},
        "pool": pool,
        "dtype": dtype,
        "computed_in": str(extractor.dtype).removeprefix("torch."),
        "short_side": extractor.short_side,
        "mean": list(extractor.statistics.mean),
        "std": list(extractor.statistics.std),
        "reading": extractor.reading._asdict(),
    }


def about(extractor: FeatureExtractor, weights: str | None) -> dict[str, Any]:
    """What a store tells beside its settings."""
    versions = {"ziggurat": __version__, "torch": torch.__version__}
    return {"weights": weights, "statistics": extractor.statistics.source, "versions": versions}


def write_features(
    extractor: FeatureExtractor,
    images: Sequence[StoredImage],
    writer: StoreWriter,
    pool: str | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    step: Callable[[int], Any] = lambda count: None,
) -> Counts:
    """Computes the features of images that the store does not have, and adds them.

    A value that the store's type cannot hold makes an image unreadable, as does an image that cannot be read.

    Args:
        extractor: the network and its preprocessing.
        images: this process's share of the images.
        writer: the store, open.
        pool: as for :func:`backbones.pooling.pool_of`; None for maps.
        batch_size: images in a batch; None takes 32, and fewer of large images.
        workers: processes that read images, 0 or more.
        step: is called with the number of images after each batch.

    Raises:
        UserError: the device has too little memory for a batch, or a worker was killed.
    """
    todo = [image for image in images if image.name not in writer.done]
    pool_map = pool_of(pool) if pool is not None else None
    written = unreadable = 0
    pixels = loaded(todo, extractor.reading, extractor.short_side is not None, workers)
    for item in batches(pixels, default_size if batch_size is None else lambda *size: batch_size):
        if isinstance(item, Unreadable):
            writer.add_unreadable(todo[item.number].name, item.reason)
            unreadable += 1
            step(1)
            continue
        for number, size, features in computed(extractor, item, pool_map, writer.stages, writer.dtype):
            name = todo[number].name
            if features is None:
                writer.add_unreadable(name, f"{name}: its features are not finite in {writer.dtype}")
                unreadable += 1
            else:
                writer.add(name, size, features)
                written += 1
        step(len(item.numbers))
    writer.commit()
    return Counts(written, unreadable)


def computed(
    extractor: FeatureExtractor,
    batch: Batch,
    pool: Callable[[Tensor], Tensor] | None,
    stages: Sequence[str],
    dtype: torch.dtype,
) -> Iterator[tuple[int, tuple[int, int], dict[str, Tensor] | None]]:
    """Number, (height, width) and features of each image of a batch; None for features that are not finite."""
    try:
        with torch.no_grad():
            inputs = extractor.normalised(batch.pixels)
            maps = extractor.net(inputs)
        levels = [(level if pool is None else pool(level.float())).to(dtype).cpu() for level in maps]
    except torch.OutOfMemoryError:
        count, _, height, width = batch.pixels.shape
        what = f"{count} images of {height}x{width} pixels do not fit into the memory of {extractor.device}"
        raise UserError(f"{what}; allowed: a smaller --batch-size, --short-side") from None
    finite = torch.stack([level.isfinite().flatten(1).all(1) for level in levels]).all(0).tolist()
    for i, number in enumerate(batch.numbers):
        features = {stage: level[i] for stage, level in zip(stages, levels, strict=True)}
        yield number, tuple(inputs.shape[2:]), features if finite[i] else None
