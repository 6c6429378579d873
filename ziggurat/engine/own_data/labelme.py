"""LabelMe's JSON: one file an image, with polygons, rectangles, circles and masks.

As LabelMe's own converters do, a rectangle is an outline of four corners, and a circle is one of enough corners to be
round. Shapes of one label and one ``group_id`` are one object. Images without a file are left out, since nobody has
looked at them yet.
"""

import base64
import io
import math
import posixpath
from typing import Any

import numpy as np
from PIL import Image

from backbones.errors import UserError, shown
from ziggurat.engine.coco_schema import is_number
from ziggurat.engine.own_data.content import FARTHEST, Book, Notes, box_around, check_pixels, rectangle, signed_area
from ziggurat.engine.own_data.listing import ALL, Listing, split_of_folder
from ziggurat.engine.own_data.reading import read_json, read_text
from ziggurat.engine.own_data.voc import files_of_kind

NO_CLASS = ("__ignore__", "_background_")  # in a labels.txt
MARK = b'"shapes"'


def find(listing: Listing) -> dict[str, list[str]]:
    """The JSON files of each split, by folders."""
    splits: dict[str, list[str]] = {}
    for name in files_of_kind(listing, ".json", MARK):
        splits.setdefault(split_of_folder(name) or ALL, []).append(name)
    return splits


def read(listing: Listing, splits: dict[str, list[str]], options: Any, notes: Notes) -> dict[str, Book]:
    """The books of all splits.

    Raises:
        UserError: a file is no JSON, or a shape has no label or no points. The message names file and shape.
    """
    names = listed_names(listing)
    books = {}
    for split, files in splits.items():
        books[split] = book = Book(names)
        contents = {}
        for name in files:
            with notes.entry():
                contents[name] = read_json(listing.path(name))
        scenes = {
            name: content for name, content in contents.items() if isinstance(content, dict) and "shapes" in content
        }
        for name in sorted(contents.keys() - scenes.keys()):
            notes.add("json files left out, which have no shapes", name)
        images = {name: image_of(listing, name, content, split) for name, content in scenes.items()}
        unsized = [images[name] for name, content in scenes.items() if not size_of(content)]
        sizes = listing.sizes(image for image in unsized if image in listing.known)
        for name, content in scenes.items():
            size = size_of(content) or sizes.get(images[name])
            if size is None:
                notes.add("files left out, which have no size and an image that cannot be read", name)
                continue
            image_id = book.add_image(images[name], *size)
            add_shapes(book, image_id, listing, name, content["shapes"], size, notes)
    used = {image["file_name"] for book in books.values() for image in book.images}
    for name in listing.images:
        if name not in used:
            notes.add("images left out, which have no annotation file", name)
    return books


def listed_names(listing: Listing) -> list[str]:
    """The classes of a ``labels.txt``; [] without one."""
    if "labels.txt" not in listing.files:
        return []
    lines = [line.strip() for line in read_text(listing.path("labels.txt")).splitlines()]
    return list(dict.fromkeys(line for line in lines if line and line not in NO_CLASS))


def size_of(content: dict[str, Any]) -> tuple[int, int] | None:
    width, height = content.get("imageWidth"), content.get("imageHeight")
    sides = (width, height)
    return (int(width), int(height)) if all(is_number(side) and side >= 1 for side in sides) else None


def image_of(listing: Listing, name: str, content: dict[str, Any], split: str) -> str:
    """The image of a file: the one beside the file, else its ``imagePath``. An absent image keeps its name."""
    near, stem = posixpath.dirname(name), posixpath.splitext(posixpath.basename(name))[0]
    said = content.get("imagePath")
    wanted = None if split == ALL else split
    found = listing.image(said, near, wanted) if isinstance(said, str) and said else None
    found = found or listing.image_of_stem(stem, near, wanted)
    last = posixpath.basename(said.replace("\\", "/")) if isinstance(said, str) else ""
    return found or posixpath.join(near, last or f"{stem}.jpg")


def add_shapes(
    book: Book, image_id: int, listing: Listing, name: str, shapes: Any, size: tuple[int, int], notes: Notes
) -> None:
    """Adds the objects of an image to a book."""
    if not isinstance(shapes, list):
        raise UserError(f"{listing.path(name)}: shapes is {shown(shapes)}; allowed: a list")
    groups: dict[Any, list[tuple[str, dict]]] = {}
    for i, shape in enumerate(shapes):
        source = f"{name}, shapes[{i}]"
        with notes.entry():
            label = shape.get("label") if isinstance(shape, dict) else None
            if not isinstance(label, str) or not label:
                raise UserError(f"{listing.path(source)}: label is {shown(label)}; allowed: the name of a class")
            kind = shape.get("shape_type") or "polygon"
            if kind not in ("polygon", "rectangle", "circle", "mask"):
                notes.add(f"shapes of type {kind} left out, which have no area", source)
                continue
            group = shape.get("group_id")
            groups.setdefault((label, i if group is None else f"group {group}"), []).append((source, shape))
    for (label, _), members in groups.items():
        with notes.entry():
            add_group(book, image_id, label, members, listing, size)


def add_group(
    book: Book, image_id: int, label: str, members: list[tuple[str, dict]], listing: Listing, size: tuple[int, int]
) -> None:
    """Adds an object of one or several shapes. Polygons stay polygons, unless a mask is among the shapes."""
    outlines, masks = [], []
    for source, shape in members:
        if shape.get("shape_type") == "mask":
            masks.append(mask_of(shape, str(listing.path(source)), size))
        else:
            outlines.append(outline_of(shape, str(listing.path(source))))
    source = members[0][0]
    if not masks:
        area = sum(abs(signed_area(points)) for points in outlines)
        book.add_object(image_id, label, box_around(outlines), source, outlines, area)
        return
    from pycocotools import mask as coco_mask

    width, height = size
    codes = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    codes += coco_mask.frPyObjects(outlines, height, width) if outlines else []
    code = coco_mask.merge(codes)
    runs = dict(size=[height, width], counts=code["counts"].decode())
    book.add_object(image_id, label, coco_mask.toBbox(code).tolist(), source, runs, float(coco_mask.area(code)))


def points_of(shape: dict[str, Any], where: str, least: int) -> list[list[float]]:
    points = shape.get("points")
    right = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
    )
    if not right or len(points) < least:
        kind = shape.get("shape_type") or "polygon"
        raise UserError(f"{where}: points of a {kind} are {shown(points)}; allowed: {least} or more [x, y]")
    return points


def outline_of(shape: dict[str, Any], where: str) -> list[float]:
    """A polygon, rectangle or circle as a polygon x, y, x, y, ..."""
    kind = shape.get("shape_type") or "polygon"
    points = points_of(shape, where, 3 if kind == "polygon" else 2)
    if kind == "polygon":
        flat = [value for point in points for value in point]
    elif kind == "rectangle":
        xs, ys = zip(*points)
        flat = rectangle(min(xs), min(ys), max(xs), max(ys))
    else:
        (x, y), (to_x, to_y) = points[:2]
        radius = math.hypot(to_x - x, to_y - y)
        if radius > FARTHEST:
            raise UserError(f"{where}: a circle of the radius {radius:g}; allowed: up to {FARTHEST:,} pixels")
        # LabelMe's own number of corners: no edge is farther than one pixel from the circle.
        corners = max(12, int(math.pi / math.acos(1 - 1 / radius)) if radius > 1 else 0)
        turns = [2 * math.pi * i / corners for i in range(corners)]
        flat = [value for turn in turns for value in (x + radius * math.sin(turn), y + radius * math.cos(turn))]
    return [round(float(value), 4) for value in flat]


def mask_of(shape: dict[str, Any], where: str, size: tuple[int, int]) -> np.ndarray:
    """A mask, uint8 (height, width) of the image. The file has it as a PNG of the box that its two points span."""
    (left, top), (right, bottom) = [[round(value) for value in point] for point in points_of(shape, where, 2)[:2]]
    width, height = size
    check_pixels(width, height, where)
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.get("mask") or "")), formats=["PNG"]) as image:
            part = np.asarray(image.convert("L")) > 0
    except Exception as error:  # base64's, Pillow's, and those of a PNG that is cut off
        raise UserError(f"{where}: mask cannot be read ({type(error).__name__}); allowed: a PNG in base64") from None
    whole = np.zeros((height, width), np.uint8)
    wanted = (bottom - top + 1, right - left + 1)
    inside = 0 <= left <= right < width and 0 <= top <= bottom < height
    if part.shape != wanted or not inside:
        raise UserError(
            f"{where}: a mask of {part.shape[1]}x{part.shape[0]} pixels at {left},{top} to {right},{bottom}; allowed: "
            f"one of the box's size, inside the image of {width}x{height}"
        )
    whole[top : bottom + 1, left : right + 1] = part
    return whole
