"""Which image of which data set a sample is made of, through wrappers that join, repeat and mix data sets."""

from collections.abc import Iterator
from typing import Any

import numpy as np


def original(dataset: Any, index: int) -> tuple[Any, int]:
    """The innermost data set that a sample comes from, and the sample's index there.

    Of a wrapper that mixes images, this is the first image of the mixture.

    Args:
        dataset: a data set of the mm libraries or of PyTorch, in wrappers or not.
        index: of the sample, from 0.
    """
    parts, inner = getattr(dataset, "datasets", None), getattr(dataset, "dataset", None)
    if parts:
        for part in parts:
            if index < len(part):
                return original(part, index)
            index -= len(part)
        raise IndexError(index)
    if inner is None:
        return dataset, index
    order = getattr(dataset, "repeat_indices", getattr(dataset, "indices", None))  # of repeated images, of a subset
    return original(inner, index % len(inner) if order is None else int(order[index]))


def innermost(dataset: Any) -> Iterator[Any]:
    """The data sets inside all wrappers."""
    inner = getattr(dataset, "dataset", None)
    parts = [*(getattr(dataset, "datasets", None) or ()), *(() if inner is None else (inner,))]
    for part in parts:
        yield from innermost(part)
    if not parts:
        yield dataset


def spread(total: int, count: int | None) -> list[int]:
    """So many indices of 0 to ``total`` - 1, evenly spread, the first and the last among them; None for all."""
    chosen = total if count is None else min(count, total)
    return np.linspace(0, total - 1, chosen).astype(int).tolist() if total else []


def looked_at(dataset: Any, count: int | None) -> Iterator[tuple[Any, int]]:
    """(data set, index) of so many images of the innermost data sets, evenly spread over all of them."""
    parts = list(innermost(dataset))
    for place in spread(sum(map(len, parts)), count):
        for part in parts:
            if place < len(part):
                yield part, place
                break
            place -= len(part)
