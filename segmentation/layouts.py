"""Which mask belongs to which image, in the layouts that people have.

``masks`` is any layout in which a mask has its image's name. A mask is known by a folder such as ``masks``, or by
an end such as ``_mask`` of its name. ``ade20k``, ``cityscapes`` and ``voc`` are the layouts of these data sets, with
their classes.
"""

import posixpath
from collections.abc import Iterable

from backbones.errors import UserError, shorten
from segmentation.pairs import MASK_SUFFIXES
from ziggurat.engine.own_data.listing import ALL, Listing, split_of_folder
from ziggurat.engine.own_data.reading import read_text

MASK_FOLDERS = {
    *("mask", "masks", "annotation", "annotations", "label", "labels", "segmentation", "segmentations", "groundtruth"),
    *(
        "ground_truth",
        "gt",
        "gtfine",
        "segmentationclass",
        "segmentationclassraw",
        "labels_class",
        "ann",
        "anns",
        "seg",
    ),
}
IMAGE_FOLDERS = {
    "image",
    "images",
    "img",
    "imgs",
    "photo",
    "photos",
    "jpegimages",
    "leftimg8bit",
    "rgb",
    "input",
    "inputs",
}
MASK_ENDS = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", "_l", "_labelids")
IMAGE_ENDS = ("_image", "_img", "_rgb", "_sat", "_leftimg8bit")
OBJECT_MASKS = "SegmentationObject"  # of VOC: a number for each object, and no classes

Pairs = dict[str, list[tuple[str, str]]]  # split -> names of image and mask


def pairs_of(listing: Listing, layout: str) -> Pairs:
    """The pairs of a layout by split; {} for a folder of another layout.

    Raises:
        UserError: two images or two masks have one name.
    """
    finders = {"cityscapes": cityscapes, "voc": voc}
    return finders.get(layout, masks)(listing)


def layout_of(listing: Listing) -> str | None:
    """The layout of a folder; None if no mask has an image."""
    if "objectInfo150.txt" in listing.files:
        return "ade20k"
    return next((name for name in ("cityscapes", "voc", "masks") if pairs_of(listing, name)), None)


def cityscapes(listing: Listing) -> Pairs:
    """Fine labels: ``gtFine/train/aachen/x_gtFine_labelTrainIds.png``, or ``_labelIds.png``."""
    pairs: Pairs = {}
    for end in ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"):
        for mask in listing.named(end.lower()):
            image = mask.replace("gtFine/", "leftImg8bit/", 1).removesuffix(end) + "_leftImg8bit.png"
            if mask.endswith(end) and image in listing.known:
                pairs.setdefault(split_of_folder(mask) or ALL, []).append((image, mask))
        if pairs:
            return pairs
    return {}


def voc(listing: Listing) -> Pairs:
    """``ImageSets/Segmentation/train.txt``, ``JPEGImages/x.jpg`` and ``SegmentationClass/x.png``."""
    pairs: Pairs = {}
    for file in listing.named(".txt"):
        folder, split = posixpath.split(posixpath.splitext(file)[0])
        if not f"/{folder}".endswith("/ImageSets/Segmentation") or split not in ("train", "val", "test"):
            continue
        root = folder[: -len("ImageSets/Segmentation")]
        for number, line in enumerate(read_text(listing.path(file)).splitlines(), 1):
            name = line.strip()
            image, mask = f"{root}JPEGImages/{name}.jpg", f"{root}SegmentationClass/{name}.png"
            if name and (image not in listing.files or mask not in listing.files):
                raise UserError(
                    f"{listing.path(file)}:{number}: {name!r} has no {image} and {mask}; allowed: both files"
                )
            if name:
                pairs.setdefault(split, []).append((image, mask))
    return pairs


def masks(listing: Listing) -> Pairs:
    """Any layout in which the names of images and masks are the same but for folders and ends of their kind."""
    found = [name for name in listing.images if OBJECT_MASKS not in name.split("/")]
    of_masks = [name for name in found if is_mask(name)]
    masks = keyed((name for name in of_masks if name.lower().endswith(MASK_SUFFIXES)), MASK_FOLDERS, MASK_ENDS, listing)
    images = [name for name in found if name not in set(of_masks)]
    keys = {name: key_of(name, IMAGE_FOLDERS, IMAGE_ENDS) for name in images}
    paired = keyed((name for name in images if keys[name] in masks), IMAGE_FOLDERS, IMAGE_ENDS, listing)
    pairs: Pairs = {}
    for key, image in sorted(paired.items()):
        pairs.setdefault(split_of_folder(image) or ALL, []).append((image, masks[key]))
    return pairs


def is_mask(name: str) -> bool:
    *folders, last = name.lower().split("/")
    stem = posixpath.splitext(last)[0]
    # The nearest folder that says a kind decides: annotations/images/x.png is an image.
    kind = next((part in MASK_FOLDERS for part in reversed(folders) if part in MASK_FOLDERS | IMAGE_FOLDERS), None)
    return stem.endswith(MASK_ENDS) if kind is None else kind


def key_of(name: str, folders: set[str], ends: tuple[str, ...]) -> str:
    """A name without suffix, and without the folders and the end that tell images from masks."""
    *parts, last = name.split("/")
    stem = posixpath.splitext(last)[0]
    end = next((end for end in ends if stem.lower().endswith(end)), "")
    kept = [part for part in parts if part.lower() not in folders]
    return "/".join([*kept, stem[: len(stem) - len(end)]])


def keyed(names: Iterable[str], folders: set[str], ends: tuple[str, ...], listing: Listing) -> dict[str, str]:
    """The names by their keys; UserError for two names of one key."""
    found: dict[str, str] = {}
    for name in names:
        key = key_of(name, folders, ends)
        if key in found:
            raise UserError(f"{listing.root}: {shorten([found[key], name])} have one name; allowed: one file of a name")
        found[key] = name
    return found
