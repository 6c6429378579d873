"""The progress on an image of many tiles: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

MANY = 64  # images of fewer tiles take a moment, and show no progress
PAUSE = 30.0  # seconds between two lines


def followed(batches: Iterable[Any], count: int, batch_size: int) -> Iterator[Any]:
    """Passes on the batches of an image's tiles, and shows how many tiles are done.

    Args:
        batches: one after the other.
        count: of all tiles.
        batch_size: tiles in a batch but the last.
    """
    if count < MANY:
        yield from batches
        return
    bar = tqdm(total=count, unit="tile", leave=False, disable=None)
    last = time.monotonic()
    for done, batch in enumerate(batches, 1):
        yield batch
        bar.update(min(batch_size, count - bar.n) if not bar.disable else 0)
        if bar.disable and time.monotonic() - last > PAUSE:
            last = time.monotonic()
            print(f"tile {min(done * batch_size, count)} of {count}", file=sys.stderr, flush=True)
    bar.close()
