"""Pairs of an image and its mask: found by name in parallel folders, or listed in a file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones import UserError
from backbones.errors import shorten
from backbones.image_files import files_below, suffixes_of
from backbones.images import SUFFIXES
from ziggurat.engine.inside import check_inside
from ziggurat.engine.own_data.reading import read_text
from ziggurat.engine.reading import reading_of_dataset
from ziggurat.engine.splits import under_root

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless formats: JPEG changes class indices at edges


class LossyMasks(UserError):
    """Masks are in a format that changes their values.

    Args:
        message: of the error.
        pairs: the files (image, mask).
    """

    def __init__(self, message: str, pairs: list[tuple[Path, Path]]):
        self.pairs = pairs
        super().__init__(message)


def files_of(dataset: Any) -> list[tuple[Path, Path]]:
    """The pairs (image, mask) of a MaskFolderDataset's config.

    Raises:
        UserError: as :func:`matched_files` and :func:`listed_pairs`.
    """
    root = Path(dataset.get("data_root") or ".")
    if dataset.get("pairs"):
        return listed_pairs(under_root(dataset, dataset["pairs"]), root)
    prefix = dataset.get("data_prefix") or {}
    folders = (under_root(dataset, prefix.get(key) or "") for key in ("img_path", "seg_map_path"))
    names = under_root(dataset, dataset["ann_file"]) if dataset.get("ann_file") else None
    suffixes = suffixes_of(reading_of_dataset(dataset))
    return matched_files(*folders, names, dataset.get("img_suffix"), dataset.get("seg_map_suffix"), suffixes)


def matched_files(
    images: Path,
    masks: Path,
    names: Path | None = None,
    img_suffix: str | None = None,
    seg_map_suffix: str | None = None,
    suffixes: tuple[str, ...] = SUFFIXES,
) -> list[tuple[Path, Path]]:
    """Pairs (image, mask) of the same relative name, sorted; with ``names`` in the order of that file.

    Args:
        images: the folder of the images.
        masks: the folder of the masks.
        names: a text file with a name on each line, with or without ``img_suffix``. Only these images are taken.
        img_suffix: the end of the images' names that the masks do not share, such as ``_leftImg8bit.png``. By default
            any suffix of an image.
        seg_map_suffix: likewise for masks.
        suffixes: those of images.

    Raises:
        UserError: a folder is missing or empty, an image has no mask in a lossless format, or a line is no image.
    """
    for what, folder in (("image", images), ("mask", masks)):
        if not folder.is_dir():
            raise UserError(f"no {what} folder {folder}; set data_root, or data_prefix of the data set")
    found = files_by_name(images, suffixes, img_suffix)
    if not found:
        raise UserError(f"no images in {images}; readable: {', '.join([img_suffix] if img_suffix else suffixes)}")
    there = files_by_name(masks, MASK_SUFFIXES, seg_map_suffix)
    if names is not None:
        found = {name: found[name] for name in listed_names(names, found, images, img_suffix)}
    absent = [path for name, path in found.items() if name not in there]
    if absent:
        lossy = files_by_name(masks, tuple(suffix for suffix in SUFFIXES if suffix not in MASK_SUFFIXES))
        if lossy.keys() >= {name for name in found if name not in there}:
            first = next(iter(lossy.values()))
            raise LossyMasks(
                f"masks in {masks} are {first.suffix} files, e.g. {first.name}, which blur class indices; "
                f"allowed: {', '.join(MASK_SUFFIXES)}",
                [(found[name], lossy[name]) for name in found if name in lossy],
            )
        with_suffix = f" and the suffix {seg_map_suffix}" if seg_map_suffix else ""
        raise UserError(
            f"{len(absent)} of {len(found)} images in {images} have no mask of the same name{with_suffix} in {masks}: "
            f"{shorten(path.name for path in absent)}"
        )
    return [(path, there[name]) for name, path in found.items()]


def listed_names(file: Path, found: dict[str, Path], images: Path, img_suffix: str | None) -> list[str]:
    """The names in a file, one a line, as keys of ``found``; UserError for a line that is no image."""
    names = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        bare = text.removesuffix(img_suffix) if img_suffix else str(Path(text).with_suffix(""))
        name = text if text in found else bare
        if name not in found:
            raise UserError(f"{file}:{number}: no image {text!r} in {images}; allowed: names of images there")
        names.append(name)
    if not names:
        raise UserError(f"{file}: no names of images in it")
    return names


def listed_pairs(file: Path, root: Path) -> list[tuple[Path, Path]]:
    """The pairs in a CSV file of two columns, image and mask, below ``root``.

    Raises:
        UserError: the file is absent, a line has not two names, or a name leads out of the root and the file's folder.
    """
    rows = [row for row in csv.reader(read_text(file).splitlines()) if row]
    odd = [i for i, row in enumerate(rows, 1) if len(row) != 2 or not all(row)]
    if odd or not rows:
        raise UserError(f"{file}:{odd[0] if odd else 1}: allowed: an image and a mask on each line, as IMAGE,MASK")
    check_inside(file, "an image", (row[0] for row in rows), root)
    check_inside(file, "a mask", (row[1] for row in rows), root, file.parent)
    return [(root / image, root / mask) for image, mask in rows]


def lone_masks(pairs: Sequence[tuple[Path, Path]], masks: Path) -> list[Path]:
    """The masks of a folder that are in none of the pairs (image, mask)."""
    used = {mask for _, mask in pairs}
    return [path for path in files_by_name(masks, MASK_SUFFIXES).values() if path not in used]


def files_by_name(folder: Path, suffixes: tuple[str, ...], ending: str | None = None) -> dict[str, Path]:
    """The files below a folder by their relative names without suffix; UserError for two files of one name.

    Hidden ones are left out, as by ``backbones.image_files.files_below``.

    Args:
        folder: the folder.
        suffixes: of the files.
        ending: the end of the files' names that is left out, in place of any suffix.
    """
    files: dict[str, Path] = {}
    for path in files_below(folder, suffixes):
        if ending and not path.name.endswith(ending):
            continue
        whole = path.relative_to(folder)
        name = whole.as_posix().removesuffix(ending) if ending else whole.with_suffix("").as_posix()
        if name in files:
            raise UserError(
                f"{path} differs from {files[name].name} in its suffix alone; allowed: one file of a name, since masks "
                "are found by it"
            )
        files[name] = path
    return files
