"""Whether images of more than 8 bits use the range that they are read by. Otherwise they are nearly black."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from backbones.errors import UserError
from backbones.images import opened
from backbones.reading import Reading
from ziggurat.engine.findings import WARNING, Finding, Place, found_in
from ziggurat.engine.shown import Photo

LOOKED_AT = 12  # images of a data set
SUFFIXES = (".png", ".tif", ".tiff")
FULL = (1 << 16) - 1
DARK = 8  # a range that is larger than the values by this factor leaves at most 32 of 256 levels


def dark_images(paths: Sequence[Path], reading: Reading) -> Iterator[Finding]:
    """A finding if the grey images of 16 bits among the first, the middle and the last ones use little of their range.

    Args:
        paths: of the images.
        reading: the rule by which they are read. One with a ``value_range`` is taken to be right.
    """
    if reading.value_range is not None:
        return
    candidates = [path for path in paths if path.suffix.lower() in SUFFIXES]
    places = np.unique(np.linspace(0, len(candidates) - 1, LOOKED_AT).astype(int)) if candidates else ()
    largest = {path: top for path in (candidates[i] for i in places) if (top := largest_value(path)) is not None}
    top = max(largest.values(), default=FULL)
    if top * DARK <= FULL:
        bits = max(1, int(top).bit_length())
        text = (
            f"{{count}} of {len(places)} images that were looked at have 16 bits, and no value above {top:,} of "
            f"{FULL:,}, so that they are read nearly black"
        )
        fitting = (0, (1 << bits) - 1)
        cure = f"reading.value_range=[0,{fitting[1]}], or the range of the camera"
        words, changes = f"with value_range=[0,{fitting[1]}]", {"value_range": fitting}
        views = [(Photo(path, words="as read now"), Photo(path, words=words, changes=changes)) for path in largest]
        yield from found_in("image-dark", WARNING, text, list(largest), cure, map(Place, largest), views=views)


def largest_value(path: Path) -> int | None:
    """The largest value of a grey image of 16 bits; None for other images, and for those that cannot be read."""
    try:
        with opened(path) as image:
            return int(np.asarray(image).max()) if image.mode.startswith("I;16") else None
    except UserError:
        return None
