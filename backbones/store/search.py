"""The nearest neighbours of vectors in a store. The search is exact, and needs little memory for a store of any size.

Features pass by in blocks. A block is compared in float32, with a bound of the rounding errors. Images that may be
among the best within this bound are compared again in float64. So the result depends neither on the blocks nor on the
order in which a processor sums. Images with equal scores have the order of the store.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.checks import check_int
from backbones.errors import UserError, shown, unknown

if TYPE_CHECKING:
    from backbones.store.reader import FeatureStore

METRICS = ("cosine", "euclidean")
BLOCK_BYTES = 32 << 20  # of a block in float32, and of its scores
QUERIES = 64  # that a block is compared with at a time
ROUNDING = 2.0**-22  # a bound of the relative error of one sum or product of float32, and some room
SQUARES = (1e-30, 1e30)  # between these the squared length of a vector is exact enough in float32


class Neighbour(NamedTuple):
    """An image of the store that is near to a query.

    Attributes:
        image: its name.
        position: of the image in the store.
        score: the cosine similarity, -1..1, or the euclidean distance. The cosine with a vector of zeros is 0.
        place: row and column of the middle of the best place, in pixels of the image as the network saw it. None where
            whole images are compared.
    """

    image: str
    position: int
    score: float
    place: tuple[float, float] | None


class Cells(NamedTuple):
    """Images of a store, each as a grid of vectors, which has one cell where whole images are compared.

    Attributes:
        images: (N,) positions in the store.
        values: (N, cells, C) float32.
        grid: rows and columns of a grid.
    """

    images: np.ndarray
    values: np.ndarray
    grid: tuple[int, int]


def search(
    store: "FeatureStore",
    queries: Any,
    stage: str | None = None,
    top: int = 10,
    metric: str = "cosine",
    places: bool = False,
    rows: int | None = None,
) -> list[list[Neighbour]]:
    """The neighbours of each query, the nearest one first. There are fewer than ``top`` if the store has fewer images.

    Args:
        store: a store of any pooling.
        queries: (Q, C), the vectors.
        stage: the stage that is compared; None for the last one.
        top: number of neighbours.
        metric: ``"cosine"`` or ``"euclidean"``.
        places: compare with every place of each image, and find the best one. The store has maps or grids then.
            Otherwise a map or grid is compared by its mean.
        rows: images in a block; None for as many as fit into 32 MB.

    Raises:
        UserError: an argument has another value than those allowed.
    """
    stage, vectors = checked(store, queries, stage, top, metric, places)
    best = [Best(top) for _ in vectors]
    targets = prepared(vectors, metric)
    for cells in cells_of(store, stage, places, None if rows is None else check_int("rows", rows, 1, None)):
        for start in range(0, len(targets), QUERIES):
            some = slice(start, start + QUERIES)
            compare(cells, targets[some], metric, best[some])
    return [one.neighbours(store, metric, places) for one in best]


def checked(
    store: "FeatureStore", queries: Any, stage: str | None, top: int, metric: str, places: bool
) -> tuple[str, np.ndarray]:
    """The stage and the vectors of a search; arguments and errors as for :func:`search`."""
    stage = checked_stage(store, stage, places)
    vectors = checked_queries(queries, channels_of(store, stage))
    check_int("top", top, 1, None)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    return stage, vectors


def checked_stage(store: "FeatureStore", stage: str | None, places: bool) -> str:
    """The stage, the last one by default; UserError if the store does not have it, or has no places."""
    stage = store.stages[-1] if stage is None else stage
    if stage not in store.stages:
        raise unknown("stage", stage, store.stages)
    pool = store.meta["settings"].get("pool")
    if places and pool in ("mean", "gem"):
        raise UserError(f"{store.path} has one vector of each image (pool {pool}); allowed: a store of maps or grid:K")
    return stage


def channels_of(store: "FeatureStore", stage: str) -> int | None:
    """The length of a stage's vectors; None if the store has none."""
    return store[0][stage].shape[0] if len(store) else None


def numbers_of(vectors: Any) -> np.ndarray:
    """An array or tensor as float64; UserError for what has no numbers."""
    try:
        return np.asarray(vectors.detach().cpu().double() if isinstance(vectors, Tensor) else vectors, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"vector is {shown(vectors)}; allowed: numbers, as many as the stage has channels") from None


def checked_queries(queries: Any, channels: int | None) -> np.ndarray:
    """(Q, channels) float64, for None of any channels; UserError for another shape, or values that are not finite."""
    array = numbers_of(queries)
    if array.ndim != 2 or array.shape[1] != (channels or array.shape[1]):
        raise UserError(f"vector has shape {array.shape[1:]}; allowed: ({channels},), as the store's features")
    if not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise UserError("vector has values that are not finite in float32; allowed: finite numbers")
    return array


def prepared(vectors: np.ndarray, metric: str) -> np.ndarray:
    """Of length 1 for cosine. A vector of zeros stays."""
    if metric == "euclidean":
        return vectors
    vectors = vectors / np.maximum(np.abs(vectors).max(1, keepdims=True), np.finfo(np.float64).tiny)
    lengths = np.sqrt((vectors**2).sum(1, keepdims=True))
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def cells_of(store: "FeatureStore", stage: str, places: bool, rows: int | None) -> Iterator[Cells]:
    """The features of a stage in blocks that fit into memory."""
    for block in store.blocks():
        features = block.features[stage]
        grid = tuple(features.shape[2:]) or (1, 1)
        bytes_each = 4 * grid[0] * grid[1] * (features.shape[1] + 2 * QUERIES)
        count = max(1, BLOCK_BYTES // bytes_each) if rows is None else rows
        for start in range(0, len(block.images), count):
            some = slice(start, start + count)
            values = features[some].to(torch.float32).reshape(len(block.images[some]), features.shape[1], -1).numpy()
            if not places:
                values = values.mean(2, dtype=np.float64, keepdims=True).astype(np.float32)
            values = np.ascontiguousarray(values.transpose(0, 2, 1))
            yield Cells(block.images[some], values, grid if places else (1, 1))


def compare(cells: Cells, targets: np.ndarray, metric: str, best: "list[Best]") -> None:
    """Takes the images of a block that are among the best of a query. ``best`` has an entry for each of ``targets``."""
    lowest, highest = bounds(cells.values, targets, metric)
    for target, one, low, high in zip(targets, best, lowest.T, highest.T, strict=True):
        known = np.concatenate([np.where(np.isnan(low), -np.inf, low), one.scores])
        least = np.partition(known, -one.top)[-one.top] if len(known) >= one.top else -np.inf
        chosen = np.flatnonzero(~(high < least))  # NaN stays: what float32 cannot hold is computed in float64
        if len(chosen):
            check_finite(cells.values[chosen], cells.images[chosen])
            scores = exact(cells.values[chosen], target, metric)
            places = scores.argmax(1)
            one.add(scores[np.arange(len(chosen)), places], cells.images[chosen], places, cells.grid)


def check_finite(values: np.ndarray, images: np.ndarray) -> None:
    """Raises UserError for features that are not finite. No store is written with such ones."""
    damaged = ~np.isfinite(values).all((1, 2))
    if damaged.any():
        raise UserError(
            f"the features of image number {images[damaged][0]} of the store are not finite, so its shard is damaged; "
            "FeatureStore.verify() names the damaged shards"
        )


def bounds(values: np.ndarray, targets: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, Q) bounds of the score of each image's best cell, from below and from above. NaN where there is none.

    The score of ``euclidean`` is here the negative squared distance, so that more is nearer.
    """
    count, places, channels = values.shape
    flat = values.reshape(-1, channels)
    short = targets.astype(np.float32)
    with np.errstate(all="ignore"):
        products = flat @ short.T
        squares, own = (usable(np.einsum("ij,ij->i", one, one)) for one in (flat, short))
        if metric == "cosine":
            scores, error = products / np.sqrt(squares)[:, None], np.float32(ROUNDING * (channels + 4))
            scores[:, np.isnan(own)] = 0  # a target of zeros
        else:
            sums = squares[:, None] + own
            scores, error = 2 * products - sums, np.float32(ROUNDING * (channels + 4)) * sums
        lowest, highest = ((scores + sign * error).reshape(count, places, -1).max(1) for sign in (-1, 1))
    return lowest, highest


def usable(squares: np.ndarray) -> np.ndarray:
    """Squared lengths, with NaN where float32 rounds them too much."""
    squares[~((squares > SQUARES[0]) & (squares < SQUARES[1]))] = np.nan
    return squares


def exact(values: np.ndarray, target: np.ndarray, metric: str) -> np.ndarray:
    """(N, cells) scores in float64. Each follows from the two vectors alone, whatever is beside them."""
    values = values.astype(np.float64)
    if metric == "euclidean":
        return -((values - target) ** 2).sum(2)
    lengths = np.sqrt((values**2).sum(2))
    return np.divide((values * target).sum(2), lengths, out=np.zeros_like(lengths), where=lengths > 0)


class Best:
    """The best images so far for one query, in order.

    Args:
        top: how many.
    """

    def __init__(self, top: int):
        self.top = top
        self.scores = np.zeros(0)
        self.images = np.zeros(0, np.int64)
        self.places = np.zeros((0, 2))  # row and column, as shares of height and width

    def add(self, scores: np.ndarray, images: np.ndarray, cells: np.ndarray, grid: tuple[int, int]) -> None:
        places = np.stack([(cells // grid[1] + 0.5) / grid[0], (cells % grid[1] + 0.5) / grid[1]], 1)
        scores = np.concatenate([self.scores, scores])
        images, places = np.concatenate([self.images, images]), np.concatenate([self.places, places])
        order = np.lexsort((images, -scores))[: self.top]
        self.scores, self.images, self.places = scores[order], images[order], places[order]

    def neighbours(self, store: "FeatureStore", metric: str, places: bool) -> list[Neighbour]:
        scores = self.scores.clip(-1, 1) if metric == "cosine" else np.sqrt(-self.scores)
        found = []
        for score, image, shares in zip(scores, self.images, self.places, strict=True):
            height, width = store.size_of(image)
            place = (float(shares[0] * height), float(shares[1] * width)) if places else None
            found.append(Neighbour(store.images[int(image)].as_py(), int(image), float(score), place))
        return found
