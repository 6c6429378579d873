"""Masks of objects as one picture for each image, ``masks/<name>.png``, 16 bits."""

import numpy as np
from PIL import Image

from backbones.files import replaced_file
from ziggurat.engine.predicted.book import Book, decoded

FOLDER = "masks"


def write(book: Book, kind: type) -> list[str]:
    """Writes the maps; arguments and result as for ``ziggurat.engine.predicted.table.write``.

    A pixel has the number of its object in the image's line, from 1; 0 is no object. Where objects overlap, the one of
    the higher score is on top.
    """
    (book.out / FOLDER).mkdir(exist_ok=True)
    for row in book.rows():
        numbers = np.zeros((row["height"], row["width"]), np.uint16)
        masks = row.get("masks") or []
        for i in reversed(range(len(masks))):  # the best comes first in a line
            numbers[decoded(masks[i])] = i + 1
        with replaced_file(book.out / FOLDER / f"{row['file']}.png") as beside:
            Image.fromarray(numbers).save(beside, "PNG")
    return []
