"""What can be wrong with masks, and with images that share no size with theirs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backbones import UserError
from backbones.errors import shorten
from backbones.images import upright_size
from segmentation.legend import IGNORE
from segmentation.mask_checks import check_one_class
from segmentation.mask_files import check_same_size, read_mask
from segmentation.mask_pictures import MaskShown, OddPixels, beside
from segmentation.pairs import LossyMasks, files_of, lone_masks
from ziggurat.engine.findings import EXAMPLES, UNSEEN, UNUSABLE, WARNING, Finding, Place, caught
from ziggurat.engine.panels import Shown
from ziggurat.engine.reading import reading_of_dataset
from ziggurat.engine.splits import under_root

UNSEEN["masks"] = "files are not there, or cannot be read"
MASKS_LOOKED_AT = 50  # masks of each data set that are looked at before a run; each mask is checked when it is loaded


def mask_findings(
    dataset: Any, split: str, classes: Sequence[str], how: tuple[int, bool, Any], decode: bool = False
) -> Iterator[Finding]:
    """The findings of one data set, in the order in which a training would meet them.

    An unreadable image has no size here. Its loading says so, and a run may go on without it.

    Args:
        dataset: its config.
        split: ``"train"``, ``"val"`` or ``"test"``.
        classes: the names of its classes.
        how: the further arguments of ``read_mask``.
        decode: look at all masks rather than at up to 50, evenly spread.
    """
    root = Path(dataset.get("data_root") or ".")
    if not root.is_dir():
        yield Finding("data-folder", UNUSABLE, f"no data folder {root}; allowed: --data or data_root with a folder")
        return
    try:
        files = files_of(dataset)
    except LossyMasks as error:
        views = tuple(beside(error.pairs[:EXAMPLES]))
        yield Finding("mask-lossy", UNUSABLE, str(error), count=len(error.pairs), views=views)
        return
    except UserError as error:
        yield Finding("masks", UNUSABLE, str(error))
        return
    masks = under_root(dataset, (dataset.get("data_prefix") or {}).get("seg_map_path") or "")
    if not dataset.get("pairs") and not dataset.get("ann_file"):
        yield from without_image(files, masks)
    looked = files if decode else files[:: -(-len(files) // MASKS_LOOKED_AT)]
    found: set[int] = set()
    bad: list[tuple[Path, Path, str]] = []
    others: list[tuple[Path, Path, str]] = []
    for image, mask in looked:
        try:
            labels = read_mask(mask, *how)
        except UserError as error:
            bad.append((image, mask, str(error)))
            continue
        found.update(np.unique(labels).tolist())
        try:
            width, height = upright_size(image, reading_of_dataset(dataset))
        except UserError:
            continue
        try:
            check_same_size(mask, labels, height, width)
        except UserError as error:
            others.append((image, mask, str(error)))
    views = [(OddPixels(image, mask, how), MaskShown(mask)) for image, mask, _ in bad[:EXAMPLES]]
    yield from gathered("mask-values", bad, len(looked), views)
    yield from gathered("mask-size", others, len(looked), beside([pair for *pair, _ in others[:EXAMPLES]]))
    if bad:
        return
    views = tuple(beside(looked[:EXAMPLES]))
    if split == "train" and len(found - {IGNORE}) < 2:
        for one in caught("one-class", check_one_class, [mask for _, mask in files], how, classes):
            yield one._replace(views=views)
    if not found - {IGNORE}:
        text = f"{masks}: no pixel of {len(looked)} masks has a label; see reduce_zero_label"
        yield Finding("mask-unlabelled", WARNING, text, count=len(looked), views=views)


def without_image(files: Sequence[tuple[Path, Path]], masks: Path) -> Iterator[Finding]:
    """Masks that have no image, since neither a training nor a test has them."""
    lone = lone_masks(files, masks)
    if lone:
        names = shorten(path.relative_to(masks) for path in lone)
        text = f"{len(lone)} of {len(files) + len(lone)} masks in {masks} have no image of the same name, and are left"
        few, views = tuple(map(str, lone[:EXAMPLES])), tuple((MaskShown(path),) for path in lone[:EXAMPLES])
        yield Finding("mask-alone", WARNING, f"{text} out: {names}", "", len(lone), few, views=views)


def gathered(
    id: str, flaws: Sequence[tuple[Path, Path, str]], looked_at: int, views: Sequence[Sequence[Shown]]
) -> Iterator[Finding]:
    """Flaws of one kind, (image, mask, message), as one finding with the first message."""
    if flaws:
        rest = f". So are {len(flaws)} of {looked_at} masks that were looked at" if len(flaws) > 1 else ""
        images = [image for image, *_ in flaws[:EXAMPLES]]
        few, places = tuple(map(str, images)), tuple(map(Place, images))
        yield Finding(id, UNUSABLE, flaws[0][2] + rest, "", len(flaws), few, places, views=tuple(views))
