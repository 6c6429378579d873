"""Pairs of an image and its mask, found by name in parallel folders."""

from pathlib import Path

from backbones import UserError
from backbones.errors import shorten
from backbones.images import SUFFIXES
from engine.console import say_note

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless formats: JPEG changes class indices at edges


def matched_files(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Pairs (image, mask) of the same relative name, sorted.

    Raises:
        UserError: a folder is missing or empty, or an image has no mask in a lossless format.
    """
    for what, folder in (("image", images), ("mask", masks)):
        if not folder.is_dir():
            raise UserError(f"no {what} folder {folder}; set data_root, or data_prefix of the data set")
    found = files_by_name(images, SUFFIXES)
    if not found:
        raise UserError(f"no images in {images}; readable: {', '.join(SUFFIXES)}")
    there = files_by_name(masks, MASK_SUFFIXES)
    absent = [path for name, path in found.items() if name not in there]
    if absent:
        lossy = files_by_name(masks, tuple(suffix for suffix in SUFFIXES if suffix not in MASK_SUFFIXES))
        if lossy.keys() >= {name for name in found if name not in there}:
            first = next(iter(lossy.values()))
            raise UserError(
                f"masks in {masks} are {first.suffix} files, e.g. {first.name}, which blur class indices; "
                f"allowed: {', '.join(MASK_SUFFIXES)}"
            )
        raise UserError(
            f"{len(absent)} of {len(found)} images in {images} have no mask of the same name in {masks}: "
            f"{shorten(path.name for path in absent)}"
        )
    return [(path, there[name]) for name, path in found.items()]


def say_lone_masks(pairs: list[tuple[Path, Path]], masks: Path) -> None:
    """Says which masks of a folder have no image, since neither a training nor a test has them."""
    used = {mask for _, mask in pairs}
    lone = [path for path in files_by_name(masks, MASK_SUFFIXES).values() if path not in used]
    if lone:
        say_note(
            f"{len(lone)} of {len(used) + len(lone)} masks in {masks} have no image of the same name, and are left "
            f"out: {shorten(path.relative_to(masks) for path in lone)}"
        )


def files_by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files below a folder by their relative names without suffix; UserError for two files of one name."""
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UserError(
                f"{path} differs from {files[name].name} in its suffix alone; allowed: one file of a name, since masks "
                "are found by it"
            )
        files[name] = path
    return files
