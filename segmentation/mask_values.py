"""The values or colours that masks have, and how many masks have each."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backbones.images import opened

THREADS = 4
MOST_COLOURS = 256  # that are kept, of masks in colours


class Values(NamedTuple):
    """What masks hold.

    Attributes:
        seen: the values of masks of one channel, ascending.
        colours: [R, G, B] of masks in colours, ascending.
    """

    seen: list[int]
    colours: list[list[int]]


def values_of(masks: Sequence[Path]) -> Values:
    """The values of all masks. UserError for one that cannot be read."""
    seen: set[int] = set()
    colours: set[tuple[int, ...]] = set()
    with ThreadPoolExecutor(THREADS) as pool:
        for values in pool.map(unique_values, masks):
            if values.ndim == 1:
                seen.update(values.tolist())
            elif len(colours) < MOST_COLOURS:
                colours.update(map(tuple, values.tolist()))
    return Values(sorted(seen), [list(colour) for colour in sorted(colours)])


def unique_values(path: Path) -> np.ndarray:
    """(N,) values, or (N, 3) colours, of a mask."""
    with opened(path, what="mask") as image:
        mask = np.array(image)
        if mask.ndim == 2:
            return np.unique(mask.astype(np.int64))
        rgb = np.array(image.convert("RGB"), np.int64)
    codes = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2])[:MOST_COLOURS]
    if np.all(rgb[..., :1] == rgb):  # grey in three channels, as many programs write it
        return np.unique(rgb[..., 0])
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1)
