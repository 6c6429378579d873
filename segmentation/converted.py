"""A data set of masks written anew: index masks of one channel, and a legend that names their values."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from backbones.errors import UserError
from backbones.files import replaced_file, write_json
from segmentation.legend import IGNORE
from segmentation.mask_files import read_mask
from segmentation.own_masks import Masks
from segmentation.pairs import listed_pairs


def write_index_masks(found: Masks, names: Sequence[str], out: Path) -> dict[str, int]:
    """Writes ``out/SPLIT/IMAGE.png`` for each mask, and ``out/legend.json``. 255 is unlabelled in the masks.

    Args:
        found: the masks.
        names: the classes, by index.
        out: the folder.

    Returns:
        The number of masks of each split.

    Raises:
        UserError: a mask cannot be read or does not fit the classes, or two images differ in their suffix alone.
    """
    numbers = {}
    for split, file in found.files.items():
        pairs = listed_pairs(file, found.root)
        written: set[Path] = set()
        for image, mask in pairs:
            labels = read_mask(mask, len(names), found.reduce_zero_label, found.legend)
            path = (out / split / image.relative_to(found.root)).with_suffix(".png")
            if path in written:
                raise UserError(f"{image} differs from another image in its suffix alone; allowed: one file of a name")
            written.add(path)
            with replaced_file(path) as beside:
                Image.fromarray(labels).save(beside, "PNG")
        numbers[split] = len(pairs)
    write_json(out / "legend.json", {name: i for i, name in enumerate(names)} | {"ignore": IGNORE})
    return numbers
