"""CVAT's XML, "CVAT for images 1.1": boxes, polygons and masks. One file holds many images.

A turned box becomes the polygon of its corners. Polylines, points, cuboids, ellipses, skeletons and tags are left out.
"""

import math
import posixpath
from typing import Any

import numpy as np

from backbones.errors import UserError
from ziggurat.engine.own_data.content import Book, Notes, check_names, check_pixels, polygon_object
from ziggurat.engine.own_data.listing import ALL, Listing, split_of
from ziggurat.engine.own_data.reading import Node, number_of, read_xml
from ziggurat.engine.own_data.voc import files_of_kind

MARK = b"<annotations>"
SHAPES = ("box", "polygon", "mask")


def find(listing: Listing) -> dict[str, list[str]]:
    """The XML files of each split, by their names or folders."""
    splits: dict[str, list[str]] = {}
    for name in files_of_kind(listing, ".xml", MARK):
        splits.setdefault(split_of(name) or ALL, []).append(name)
    return splits


def read(listing: Listing, splits: dict[str, list[str]], options: Any, notes: Notes) -> dict[str, Book]:
    """The books of all splits. Images of a project with ``subset`` go into the split that this names.

    Raises:
        UserError: a file is no CVAT XML for images, or a shape has other values. The message names file and line.
    """
    books: dict[str, Book] = {}
    for split, files in splits.items():
        for name in files:
            root = read_xml(listing.path(name))
            if root.tag != "annotations" or root.first("track") is not None:
                what = f"<{root.tag}>" if root.tag != "annotations" else "tracks of a video"
                raise UserError(f"{listing.path(name)}: {what}; allowed: an export as 'CVAT for images 1.1'")
            names = labels_of(root, listing, name)
            for node in root.all("image"):
                subset = split_of(node.attributes.get("subset", "")) if split == ALL else None
                book = books.setdefault(subset or split, Book())
                book.names = list(dict.fromkeys([*book.names, *names]))
                with notes.entry():
                    add_image(book, node, listing, name, subset or split, notes)
    return books


def labels_of(root: Node, listing: Listing, name: str) -> list[str]:
    """The classes that a file lists, in a task or in a project."""
    meta = root.first("meta")
    for part in meta.children if meta else ():
        labels = part.first("labels")
        if labels is not None:
            found = [label for label in labels.all("label") if not label.text_of("parent")]
            return check_names([label.text_of("name") for label in found], f"{listing.path(name)}, labels")
    return []


def add_image(book: Book, node: Node, listing: Listing, name: str, split: str, notes: Notes) -> None:
    """Adds an image with its objects to a book."""
    where, near = f"{listing.path(name)}:{node.line}", posixpath.dirname(name)
    said = node.attributes.get("name", "")
    if not said:
        raise UserError(f"{where}: an image without a name; allowed: <image name=...>")
    width, height = (int(number_of(node.attributes.get(side), where, side)) for side in ("width", "height"))
    if min(width, height) < 1:
        raise UserError(f"{where}: an image of {width}x{height} pixels; allowed: 1x1 and larger")
    found = listing.image(said, near, None if split == ALL else split)
    place = found or posixpath.join(near, posixpath.basename(said.replace("\\", "/")))
    image_id = book.add_image(place, width, height)
    for shape in node.children:
        source = f"{name}:{shape.line}"
        label = shape.attributes.get("label", "")
        if shape.tag not in SHAPES:
            notes.add(f"shapes of type {shape.tag} left out, which have no area", source)
            continue
        with notes.entry():
            if not label:
                raise UserError(f"{listing.path(source)}: a {shape.tag} without a label; allowed: label=CLASS")
            add_shape(book, image_id, label, shape, source, str(listing.path(source)), (height, width))


def add_shape(
    book: Book, image_id: int, label: str, shape: Node, source: str, where: str, size: tuple[int, int]
) -> None:
    given = shape.attributes
    if shape.tag == "polygon":
        points = points_of(given.get("points", ""), where)
        box, area = polygon_object(points)
        book.add_object(image_id, label, box, source, [points], area)
    elif shape.tag == "box":
        left, top, right, bottom = (number_of(given.get(key), where, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        turn = number_of(given.get("rotation", 0), where, "rotation")
        if turn % 360 == 0:
            book.add_object(image_id, label, [left, top, right - left, bottom - top], source)
        else:
            points = turned(left, top, right, bottom, turn)
            box, area = polygon_object(points)
            book.add_object(image_id, label, box, source, [points], area)
    else:
        runs, box, area = mask_of(given, where, size)
        book.add_object(image_id, label, box, source, runs, area)


def points_of(text: str, where: str) -> list[float]:
    """The points "x,y;x,y;..." of a polygon as x, y, x, y, ..."""
    pairs = [pair.split(",") for pair in text.split(";") if pair.strip()]
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{where}: points is {text[:60]!r}; allowed: three or more x,y;x,y;...")
    return [number_of(value, where, "a point") for pair in pairs for value in pair]


def turned(left: float, top: float, right: float, bottom: float, degrees: float) -> list[float]:
    """The corners of a box that is turned clockwise about its centre."""
    x, y, turn = (left + right) / 2, (top + bottom) / 2, math.radians(degrees)
    corners = [(left - x, top - y), (right - x, top - y), (right - x, bottom - y), (left - x, bottom - y)]
    cos, sin = math.cos(turn), math.sin(turn)
    return [round(v, 4) for dx, dy in corners for v in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)]


def mask_of(given: dict[str, str], where: str, size: tuple[int, int]) -> tuple[dict, list[float], float]:
    """A mask as run lengths, its box and area.

    CVAT counts runs along the rows of the box, from a run of ground on; COCO counts along the columns of the image.
    """
    from pycocotools import mask as coco_mask

    check_pixels(*size, where)
    left, top, width, height = (int(number_of(given.get(k), where, k)) for k in ("left", "top", "width", "height"))
    counts = [int(number_of(value, where, "rle")) for value in given.get("rle", "").split(",")]
    inside = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0] and min(width, height) > 0
    if not inside or min(counts) < 0 or sum(counts) != width * height:
        raise UserError(
            f"{where}: a mask of {sum(counts)} pixels in a box of {width}x{height} at {left},{top}; allowed: a box "
            f"inside the image of {size[1]}x{size[0]}, and run lengths of as many pixels"
        )
    part = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width)
    whole = np.zeros(size, np.uint8, order="F")
    whole[top : top + height, left : left + width] = part
    code = coco_mask.encode(whole)
    runs = dict(size=list(size), counts=code["counts"].decode())
    return runs, coco_mask.toBbox(code).tolist(), float(coco_mask.area(code))
