"""The vectors of queries: of whole images, or of a part of each that the user points at."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones import FeatureExtractor, UserError
from backbones.pooling import pool_of
from backbones.store import FeatureStore
from backbones.store.writer import DTYPES
from ziggurat.engine.features.loading import Unreadable, batches, loaded
from ziggurat.engine.features.run import computed
from ziggurat.engine.features.sources import StoredImage


class Part(NamedTuple):
    """A box of an image, in pixels of its file.

    Attributes:
        row, column: of its upper left pixel.
        height, width: 1 and more.
        option: how the user gave it, for messages.
    """

    row: int
    column: int
    height: int
    width: int
    option: str

    def check(self, name: str, height: int, width: int) -> None:
        """Raises UserError where the part is not inside an image of this height and width."""
        if self.row + self.height > height or self.column + self.width > width:
            raise UserError(f"{self.option} is outside of {name}, which is {height} pixels high and {width} wide")


class Query(NamedTuple):
    """An image to search for: its vector, float64 (C,)."""

    image: StoredImage
    vector: np.ndarray


def queries_of(
    extractor: FeatureExtractor, store: FeatureStore, images: Sequence[StoredImage], stage: str, part: Part | None
) -> Iterator[Query | str]:
    """The queries, or for an image that has none the reason. Vectors are computed as those of the store.

    Args:
        extractor: the store's network.
        store: the store.
        images: the images.
        stage: one of the store's stages.
        part: the part of each image that is searched for; None for the whole image.
    """
    settings = store.meta["settings"]
    pool = None if settings["pool"] is None else pool_of(settings["pool"])
    for item in batches(loaded(images, extractor.reading, extractor.short_side is not None, 0)):
        if isinstance(item, Unreadable):
            yield item.reason
            continue
        size = tuple(item.pixels.shape[2:])
        for number, _, features in computed(extractor, item, pool, store.stages, DTYPES[settings["dtype"]]):
            image = images[number]
            if features is None:
                yield f"{image.name}: its features are not finite"
                continue
            try:
                if part is not None:
                    part.check(image.name, *size)
            except UserError as error:
                yield str(error)
                continue
            yield Query(image, vector_of(features[stage], part, size))


def vector_of(features: Tensor, part: Part | None, size: tuple[int, int]) -> np.ndarray:
    """The vector of an image or a part: float64 (C,). Of a map or grid, the mean over the cells of the part.

    Args:
        features: (C,), or (C, h, w).
        part: a part of the image; None for all of it.
        size: height and width of the image in pixels.
    """
    if features.ndim == 1:
        return features.double().numpy()
    if part is not None:
        rows = cells_inside(part.row, part.height, size[0], features.shape[1])
        columns = cells_inside(part.column, part.width, size[1], features.shape[2])
        features = features[:, rows, columns]
    return features.flatten(1).to(torch.float64).mean(1).numpy()


def cells_inside(start: int, length: int, side: int, count: int) -> slice:
    """The cells whose middle is in a part of a side, or the one that has the middle of the part.

    Args:
        start, length: of the part, in pixels.
        side: of the image, in pixels.
        count: of cells along this side.
    """
    first = math.ceil(start * count / side - 0.5)
    last = math.ceil((start + length) * count / side - 0.5)
    if first < last:
        return slice(first, last)
    middle = min(count - 1, int((start + length / 2) * count / side))
    return slice(middle, middle + 1)
