"""A CSV file of boxes, a line for each, with columns found by their names.

The columns are an image, a class, and the box: ``xmin, ymin, xmax, ymax`` or ``x, y, width, height`` with the left
upper corner, under these or other usual names. ``box_units="shares"`` says that the numbers are shares of the image's
sides, and "pixels" that they are pixels from 0. An image with an empty box has no objects. A column ``split`` or
``subset`` names the split of a line. The image's size comes from its file. ``val_group`` may name a column of groups.
"""

import csv
import io
import posixpath
from typing import Any

from backbones.errors import UserError, shorten
from ziggurat.engine.own_data.content import Book, Notes
from ziggurat.engine.own_data.listing import ALL, Listing, split_of
from ziggurat.engine.own_data.reading import MOST_BYTES, number_of, read_text
from ziggurat.engine.own_data.split import group_column

COLUMNS = {
    "image": (
        "image",
        "filename",
        "file_name",
        "image_path",
        "img_path",
        "path",
        "file",
        "image_name",
        "imageid",
        "image_id",
    ),
    "class": ("class", "label", "class_name", "category", "labelname", "name", "category_name"),
    "left": ("xmin", "x_min", "x1", "left", "bbox_xmin"),
    "top": ("ymin", "y_min", "y1", "top", "bbox_ymin"),
    "right": ("xmax", "x_max", "x2", "right", "bbox_xmax"),
    "bottom": ("ymax", "y_max", "y2", "bottom", "bbox_ymax"),
    "x": ("x", "bbox_x", "left", "xmin"),
    "y": ("y", "bbox_y", "top", "ymin"),
    "w": ("w", "bbox_width", "bbox_w", "box_width", "width"),
    "h": ("h", "bbox_height", "bbox_h", "box_height", "height"),
    "split": ("split", "subset"),
}
CORNERS, SIZED = ("left", "top", "right", "bottom"), ("x", "y", "w", "h")


def find(listing: Listing) -> dict[str, list[str]]:
    """The CSV files of each split that have the columns of boxes."""
    splits: dict[str, list[str]] = {}
    for name in listing.named(".csv"):
        with open(listing.path(name), "rb") as file:
            line = file.readline(1 << 16).decode("utf-8-sig", errors="replace")
        if columns_of(first_cells(line)) is not None:
            splits.setdefault(split_of(name) or ALL, []).append(name)
    return splits


def first_cells(line: str) -> list[str]:
    """The cells of a file's first line; [] for a line that is none of a CSV file."""
    try:
        return next(csv.reader([line.strip("\r\n")], delimiter=delimiter_of(line)), [])
    except csv.Error:
        return []


def delimiter_of(line: str) -> str:
    return max(",;\t", key=line.count)


def columns_of(head: list[str]) -> dict[str, int] | None:
    """The place of each column by its meaning; None if the columns of boxes are not there."""
    head = [cell.strip().lower() for cell in head]
    places = {key: next((head.index(name) for name in names if name in head), None) for key, names in COLUMNS.items()}
    box = next((keys for keys in (CORNERS, SIZED) if all(places[key] is not None for key in keys)), None)
    if box is None or places["image"] is None or places["class"] is None:
        return None
    kept = ("image", "class", *box, *(["split"] if places["split"] is not None else []))
    return {key: places[key] for key in kept}


def read(listing: Listing, splits: dict[str, list[str]], options: Any, notes: Notes) -> dict[str, Book]:
    """The books of all splits.

    Raises:
        UserError: a line has no image, class or box of numbers, or the unit of the numbers is not known. The message
            names file and line.
    """
    tables = [(name, split) for split, names in splits.items() for name in names]
    rows = [row for name, split in tables for row in rows_of(listing, name, split, notes, options["val_group"])]
    units = options["box_units"] or unit_of(rows, listing)
    images = {image: None for image, *_ in rows}
    sizes = listing.sizes(image for image in images if image in listing.known)
    books: dict[str, Book] = {}
    ids: dict[tuple[str, str], int] = {}
    groups: dict[str, str] = {}
    for image, split, source, label, box, group in rows:
        if image not in sizes:
            notes.add("lines left out, whose image is absent or cannot be read", source)
            continue
        book = books.setdefault(split, Book())
        with notes.entry():
            if group is not None and groups.setdefault(image, group) != group:
                raise UserError(
                    f"{listing.root}/{source}: the group {group!r}, and {groups[image]!r} in another line of {image}; "
                    "allowed: one group for each image"
                )
        if (split, image) not in ids:
            ids[split, image] = book.add_image(image, *sizes[image], **({} if group is None else {"group": group}))
        if box is not None:
            scale = [*sizes[image], *sizes[image]] if units == "shares" else [1] * 4
            book.add_object(ids[split, image], label, [v * s for v, s in zip(box, scale)], source)
    return books


def rows_of(
    listing: Listing, name: str, split: str, notes: Notes, val_group: str = ""
) -> list[tuple[str, str, str, str, list[float] | None, str | None]]:
    """(image, split, file:line, class, box x, y, width, height or None, group or None) of each line of a file."""
    path, near = listing.path(name), posixpath.dirname(name)
    text = read_text(path, MOST_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text.split("\n", 1)[0]))
    head = next(reader, [])
    columns = columns_of(head)
    if columns is None:
        raise UserError(
            f"{path}:1: columns {shorten(head, 12)}; allowed: a first line that names an image, a class, and "
            "xmin, ymin, xmax, ymax or x, y, width, height"
        )
    grouped = group_column(val_group, head, str(path)) if split in (ALL, "train") else None
    box_keys = [key for key in columns if key in (*CORNERS, *SIZED)]
    rows = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            where, source = f"{path}:{reader.line_num}", f"{name}:{reader.line_num}"
            with notes.entry():
                if len(cells) != len(head):
                    raise UserError(f"{where}: {len(cells)} cells; allowed: {len(head)}, as in the first line")
                said, label = cells[columns["image"]].strip(), cells[columns["class"]].strip()
                numbers = [cells[columns[key]].strip() for key in box_keys]
                if not said or (any(numbers) and not label):
                    raise UserError(f"{where}: no {'class' if said else 'image'}; allowed: a name")
                own = split_of(cells[columns["split"]]) if "split" in columns and split == ALL else None
                image = listing.image(said, near, own or (None if split == ALL else split))
                image = image or listing.image_of_stem(said, near, own or (None if split == ALL else split)) or said
                box = None
                if any(numbers):
                    box = [number_of(text, where, head[columns[key]]) for key, text in zip(box_keys, numbers)]
                    if "right" in columns:
                        box[2:] = [box[2] - box[0], box[3] - box[1]]
                group = None
                if grouped is not None and (own or split) in (ALL, "train"):
                    group = group_in(cells, grouped, head, where)
                rows.append((image, own or split, source, label, box, group))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from None
    return rows


def group_in(cells: list[str], column: int, head: list[str], where: str) -> str:
    """The group of a line; UserError for an empty cell, since nobody knows on which side the image may be."""
    group = cells[column].strip()
    if not group:
        raise UserError(f"{where}: no {head[column].strip()}, which is val_group; allowed: the group of the image")
    return group


def unit_of(rows: list[tuple], listing: Listing) -> str:
    """Pixels, if any number is above 1; UserError for numbers that may be shares."""
    boxes = [row[4] for row in rows if row[4] is not None]
    if boxes and max(max(box) for box in boxes) <= 1:
        raise UserError(
            f"{listing.root}: all boxes have numbers up to 1; allowed: box_units=shares, or box_units=pixels"
        )
    return "pixels"
