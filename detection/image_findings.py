"""What can be wrong with the images that an annotation file names: they are absent, or have another size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from backbones import UserError
from backbones.images import SUFFIXES, orientation_of, upright_size
from backbones.reading import READING, Reading
from detection.coco_entries import Annotations
from ziggurat.engine.findings import EXAMPLES, UNUSABLE, Finding, Place, found_in
from ziggurat.engine.shown import Box, Photo

IMAGES_LOOKED_AT = 50  # images of each data set whose size is looked at before a run


def absent_images(coco: Annotations, ann_file: Path, folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding(
            "image-folder", UNUSABLE, f"no image folder {folder}; set data_root or data_prefix.img of the data set"
        )
        return
    there: dict[Path, set[str]] = {}  # one listing per folder: asking for each file takes minutes on network discs
    absent = []
    for name in coco.file_names:
        path = folder / name
        if path.parent not in there:
            there[path.parent] = {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in there[path.parent]:
            absent.append(name)
    if len(absent) == len(coco.file_names) and not any(p.suffix.lower() in SUFFIXES for p in folder.rglob("*")):
        yield Finding("image-absent", UNUSABLE, f"no images in {folder}", count=len(absent))
    else:
        of = f"{ann_file}: {{count}} of {len(coco.file_names)} images are not in {folder}"
        yield from found_in("image-absent", UNUSABLE, of, absent)


def other_sizes(
    coco: Annotations,
    where: Path,
    folder: Path,
    thorough: bool = False,
    reading: Reading = READING,
    boxes: Callable[[], Mapping[str, Sequence[Box]]] = dict,
) -> Iterator[Finding]:
    """Compares images with the sizes in the file: up to 50, evenly spread, or all. Each is compared when it is loaded.

    An unreadable image has no size here. Its loading says so, and a run may go on without it. ``boxes`` gives those of
    images by their names, for pictures.
    """
    step = 1 if thorough else -(-len(coco.sizes) // IMAGES_LOOKED_AT)
    others, message = [], ""
    for name, size in list(zip(coco.file_names, coco.sizes, strict=True))[::step]:
        try:
            found = upright_size(folder / name, reading)
        except UserError:
            continue
        if tuple(found) != tuple(size):
            others.append((name, found, size))
            message = message or size_text(folder / name, found, size, str(where))
    if others:
        rest = f" ({len(others)} images are so)" if len(others) > 1 else ""
        few, drawn = [folder / name for name, *_ in others[:EXAMPLES]], boxes()
        views = [frames_of(folder / name, *sizes, drawn.get(name, ())) for name, *sizes in others[:EXAMPLES]]
        yield Finding(
            "image-size",
            UNUSABLE,
            message + rest,
            count=len(others),
            examples=tuple(map(str, few)),
            places=tuple(map(Place, few)),
            views=tuple(views),
        )


def frames_of(path: Path, found: tuple[int, int], said: tuple[float, float], boxes: Sequence[Box]) -> list[Photo]:
    """An image as it is read, and as its annotations would have it: not turned, or resized."""
    turned = tuple(found) == tuple(said[::-1]) and orientation_of(path) != 1
    if turned:
        return [Photo(path, boxes, words="as read"), Photo(path, boxes, words="not turned", changes={"upright": False})]
    return [Photo(path, boxes, words="as read"), Photo(path, boxes, words="resized to the file's size", frame=said)]


def check_size_of(path: str | Path, found: tuple[int, int], said: tuple[float, float], where: str) -> None:
    """Raises UserError for an image whose (width, height) is not the one that the annotations belong to."""
    if tuple(found) != tuple(said):
        raise UserError(size_text(path, found, said, where))


def size_text(path: str | Path, found: tuple[int, int], said: tuple[float, float], where: str) -> str:
    text = (
        f"{path} has {found[0]}x{found[1]} pixels, and by {where} {said[0]:g}x{said[1]:g}; allowed: the same size, "
        "since the annotations belong to it"
    )
    turned = orientation_of(path) if tuple(found) == tuple(said[::-1]) else 1
    if turned == 1:
        return text
    return (
        f"{text}. The image is turned upright by its EXIF orientation {turned}, and the annotations are not; "
        "reading.upright=false turns no image"
    )
