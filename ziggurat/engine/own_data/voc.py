"""Pascal VOC's XML: one file an image, with boxes.

Pixels count from 1 in VOC, and a box ends with its last pixel: ``xmin=1, xmax=10`` is 10 pixels wide. Where any box of
the data begins at 0, the file's program counted from 0, and all boxes are read so: x from ``xmin`` to ``xmax``.

A ``difficult`` object becomes COCO's crowd. As in VOC's own scoring, it counts neither as missed nor as found, and no
training takes it for an object or for the ground.
"""

import posixpath
from typing import Any, NamedTuple

from backbones.errors import UserError
from ziggurat.engine.own_data.content import Book, Notes
from ziggurat.engine.own_data.listing import ALL, Listing, split_of, split_of_folder
from ziggurat.engine.own_data.reading import MOST_OF_ONE, Node, number_of, read_text, read_xml

LOOKED_AT = 5  # files of a folder that are opened to know their kind
SIDES = ("xmin", "ymin", "xmax", "ymax")


class Found(NamedTuple):
    """One object of a file."""

    name: str
    corners: list[float]  # xmin, ymin, xmax, ymax, as they stand in the file
    difficult: int
    source: str


def find(listing: Listing) -> dict[str, list[str]]:
    """The XML files of each split, by the lists in ImageSets, else by folders."""
    files = files_of_kind(listing, ".xml", b"<annotation>")
    if not files:
        return {}
    by_stem = {posixpath.splitext(posixpath.basename(name))[0]: name for name in files}
    lists = [name for name in listing.named(".txt") if "ImageSets" in name.split("/")]
    splits: dict[str, list[str]] = {}
    for name in lists:
        split = posixpath.splitext(posixpath.basename(name))[0]
        if split in ("train", "val", "test") and split not in splits:
            stems = [line.split()[0] for line in read_text(listing.path(name)).splitlines() if line.strip()]
            known = [by_stem[stem] for stem in stems if stem in by_stem]
            if known:
                splits[split] = known
    for name in () if splits else files:
        splits.setdefault(split_of_folder(name) or ALL, []).append(name)
    return splits


def files_of_kind(listing: Listing, suffix: str, mark: bytes) -> list[str]:
    """The files of the folders in which one of the first files begins with a mark."""
    folders: dict[str, list[str]] = {}
    for name in listing.named(suffix):
        folders.setdefault(posixpath.dirname(name), []).append(name)
    return [
        name
        for names in folders.values()
        if any(has(listing, one, mark) for one in names[:LOOKED_AT])
        for name in names
    ]


def has(listing: Listing, name: str, mark: bytes) -> bool:
    with open(listing.path(name), "rb") as file:
        return mark in file.read(1 << 16)


def read(listing: Listing, splits: dict[str, list[str]], options: Any, notes: Notes) -> dict[str, Book]:
    """The books of all splits.

    Raises:
        UserError: a file is no XML, or an object has no name or no box of four numbers. The message names file and
            line.
    """
    scenes: dict[str, list[tuple[str, Node]]] = {split: [] for split in splits}
    objects: dict[str, list[Found]] = {}
    for split, names in splits.items():
        for name in names:
            with notes.entry():
                scenes[split].append((name, read_xml(listing.path(name), MOST_OF_ONE)))
    for name, root in (pair for pairs in scenes.values() for pair in pairs):
        objects[name] = []
        for node in root.all("object"):
            with notes.entry():
                objects[name].append(object_of(listing, name, node))
    from_zero = next((one.source for some in objects.values() for one in some if min(one.corners[:2]) < 1), None)
    if from_zero:
        notes.add("box begins at 0, so all boxes are read as counting from 0", from_zero)
    images = {name: image_of(listing, name, root, split) for split, pairs in scenes.items() for name, root in pairs}
    unsized = [images[name] for pairs in scenes.values() for name, root in pairs if not size_of(listing, name, root)]
    sizes = listing.sizes(image for image in unsized if image in listing.known)
    books = {split: Book() for split in splits}
    for split, pairs in scenes.items():
        for name, root in pairs:
            size = size_of(listing, name, root)
            if not size and images[name] not in sizes:
                notes.add("files left out, which have no size and an image that cannot be read", name)
                continue
            if not size:
                notes.add("images whose width and height were read from their files", name)
            image_id = books[split].add_image(images[name], *(size or sizes[images[name]]))
            for one in objects[name]:
                left, top, right, bottom = one.corners
                first = 0 if from_zero else 1
                box = [left - first, top - first, right - left + first, bottom - top + first]
                books[split].add_object(image_id, one.name, box, one.source, crowd=one.difficult)
                if one.difficult:
                    notes.add("difficult objects, which count neither as missed nor as found", one.source)
    used = set(images.values())
    folders = {posixpath.dirname(name) for name in used}
    for name in listing.images:
        if name not in used and posixpath.dirname(name) in folders and split_of(name) in (*splits, None):
            notes.add("images left out, which have no annotation file in a split", name)
    return books


def object_of(listing: Listing, name: str, node: Node) -> Found:
    where = f"{listing.path(name)}:{node.line}"
    label, box = node.text_of("name"), node.first("bndbox")
    if not label:
        raise UserError(f"{where}: an object without a name; allowed: <name>CLASS</name>")
    if box is None:
        raise UserError(f"{where}: {label} has no bndbox; allowed: <bndbox> with xmin, ymin, xmax and ymax")
    corners = [number_of(box.text_of(side), where, side) for side in SIDES]
    return Found(label, corners, int(node.text_of("difficult") == "1"), f"{name}:{node.line}")


def size_of(listing: Listing, name: str, root: Node) -> tuple[int, int] | None:
    """Width and height in the file; None where they are absent or 0."""
    texts = [root.text_of("size", side) for side in ("width", "height")]
    where = f"{listing.path(name)}:{root.line}"
    width, height = (int(number_of(text or 0, where, "width or height")) for text in texts)
    return (width, height) if width > 0 and height > 0 else None


def image_of(listing: Listing, name: str, root: Node, split: str) -> str:
    """The image of a file: the one of its name, else the ``filename`` in it. An absent image keeps its name."""
    if root.tag != "annotation":
        raise UserError(f"{listing.path(name)}: <{root.tag}>; allowed: <annotation>, as in Pascal VOC")
    near, stem = posixpath.dirname(name), posixpath.splitext(posixpath.basename(name))[0]
    wanted = None if split == ALL else split
    said = root.text_of("filename")
    found = listing.image_of_stem(stem, near, wanted) or (said and listing.image(said, near, wanted))
    return found or posixpath.join(near, posixpath.basename(said.replace("\\", "/")) or f"{stem}.jpg")
