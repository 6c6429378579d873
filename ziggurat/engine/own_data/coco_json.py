"""COCO json as people have it: other file names, ids of any kind, and entries that leave out what can be known.

Ids are made anew, since evaluators take texts, gaps and 0 amiss. The old id of an image stays as ``original_id``. Run
lengths stay run lengths: outlines of them would lose holes and single pixels.
"""

import mmap
import posixpath
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backbones.errors import UserError, shorten, shown
from ziggurat.engine.coco_schema import Flawed, Rules, check_entries, is_id, is_name, is_number, is_side
from ziggurat.engine.inside import check_inside
from ziggurat.engine.own_data.coco_forms import area_of, box_of, right_form
from ziggurat.engine.own_data.content import Book, Notes, check_names
from ziggurat.engine.own_data.listing import ALL, Listing, split_of
from ziggurat.engine.own_data.reading import read_json

HEAD = 1 << 16  # bytes at both ends of a file in which the keys of its kind are looked for first
MOST_FILES = 50  # json files of a folder: more are one for each image

ID = ("an integer or a text", is_id)
SIDE = ("a whole number of pixels, from 1", lambda value: value is None or is_side(value))
IMAGE: Rules = {"id": ID, "file_name": ("a text", lambda value: type(value) is str and value != "")}
IMAGE |= {"width": SIDE, "height": SIDE}
CATEGORY: Rules = {"id": ID}
OBJECT: Rules = {
    "image_id": ID,
    "category_id": ID,
    "iscrowd": ("0, 1", lambda value: value in (0, 1, None)),
    "area": ("a number", lambda value: value is None or is_number(value)),
    "bbox": ("[x, y, width, height], four numbers", lambda value: not value or is_box(value)),
}


def is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def find(listing: Listing) -> dict[str, list[str]]:
    """The COCO files of a folder by split. Files of instances go before those of keypoints."""
    per_folder = Counter(map(posixpath.dirname, listing.named(".json")))
    few = [name for name in listing.named(".json") if per_folder[posixpath.dirname(name)] <= MOST_FILES]
    found = [name for name in few if is_coco(listing.path(name))]
    instances = [name for name in found if posixpath.basename(name).startswith("instances")]
    splits: dict[str, list[str]] = {}
    for name in instances or found:
        splits.setdefault(split_of(name) or ALL, []).append(name)
    return splits


def is_coco(path: Path) -> bool:
    """Whether a JSON file has the keys of COCO's boxes or masks, without reading it as JSON."""
    if path.stat().st_size == 0:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{" or text.find(b'"shapes"', 0, HEAD) >= 0:
            return False  # a list of results, or a file of LabelMe
        wanted = (b'"images"', b'"annotations"', b'"categories"')
        return all(text.find(key) >= 0 for key in wanted) and text.find(b'"segments_info"') < 0  # panoptic


def read(listing: Listing, splits: dict[str, list[str]], options: Any, notes: Notes) -> dict[str, Book]:
    """The books of all splits.

    Raises:
        UserError: a split has several files; a file is no COCO json, or has an entry of another form, or one whose
            image or category is not there. The message names file and entry.
    """
    books, roofs = {}, set()
    for split, names in splits.items():
        if len(names) > 1:
            raise UserError(
                f"{listing.root}: several annotation files for {split}: {shorten(names)}; allowed: one, as "
                f"data_files=dict({split}={names[0]!r})"
            )
        books[split], above = read_file(listing, names[0], split, notes)
        roofs |= above
    drop_roofs(books.values(), roofs, notes)
    return books


def read_file(listing: Listing, name: str, split: str, notes: Notes) -> tuple[Book, set[str]]:
    """The book of an annotation file, and the names of categories that only stand above others. See :func:`read`."""
    path = listing.path(name)
    data = read_json(path)
    lists = ("images", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(key), list) for key in lists):
        raise UserError(f"{path}: not COCO json; needed: a dict with the lists images, annotations and categories")
    annotations = data.get("annotations")
    if not isinstance(annotations, list | None):
        raise UserError(f"{path}: annotations is {shown(annotations)}; allowed: a list")
    annotations = annotations or []
    try:
        check_entries(data["images"], "images", IMAGE)
        check_entries(data["categories"], "categories", CATEGORY)
        check_entries(annotations, "annotations", OBJECT)
    except Flawed as flaw:
        raise UserError(f"{path}: {flaw}") from None
    for key in lists:
        if not data[key]:
            raise UserError(f"{path}: the list {key} is empty")
        repeated = [number for number, count in Counter(one["id"] for one in data[key]).items() if count > 1]
        if repeated:
            raise UserError(
                f"{path}: several {key} have the id {shorten(repeated)}; allowed: an id of its own for each"
            )

    book = Book(check_names([one.get("name") for one in data["categories"]], f"{path}, categories"))
    names = dict(zip((one["id"] for one in data["categories"]), book.names))
    images = add_images(book, data["images"], listing, name, split, notes)
    by_text = {str(key): value for key, value in images.items()}
    sizes = {image["id"]: (image["height"], image["width"]) for image in book.images}
    for i, given in enumerate(annotations):
        source, where = f"{name}:annotations[{i}]", f"{path}, annotations[{i}]"
        image_id = images.get(given["image_id"]) or by_text.get(str(given["image_id"]))
        category = names.get(given["category_id"])
        if image_id is None and given["image_id"] in images:  # its image cannot be read
            notes.add("objects left out with their image", source)
            continue
        with notes.entry():
            if image_id is None:
                raise UserError(f"{where}: image_id is {given['image_id']!r}, and no image has this id")
            if category is None:
                allowed = f"{shorten(map(repr, names), 10)}, the ids of its categories"
                raise UserError(f"{where}: category_id is {given['category_id']!r}; allowed: {allowed}")
            made = dict(image_id=image_id, category_id=category, bbox=given.get("bbox"), source=source)
            complete(made, given, sizes[image_id], where, notes)
            book.annotations.append(made)
    return book, roofs_of(data["categories"], book.names)


def add_images(
    book: Book, given: list[dict], listing: Listing, name: str, split: str, notes: Notes
) -> dict[Any, int | None]:
    """Adds the images of a file, and returns the new id of each old one; None for an image that cannot be read.

    The file names are found below the root. An absent image keeps its name, so that checks can name it.
    """
    near = posixpath.dirname(name)
    placed = [listing.image(one["file_name"], near, None if split == ALL else split) for one in given]
    absent = [one["file_name"] for one, place in zip(given, placed) if place is None]
    check_inside(listing.path(name), "file_name", absent, listing.path(near), listing.root)
    odd = [text for text in absent if not is_name(text)]
    if odd:
        raise UserError(f"{listing.path(name)}: file_name is {odd[0]!r}; allowed: the name of a file")
    unsized = [place for one, place in zip(given, placed) if place and not (one.get("width") and one.get("height"))]
    sizes = listing.sizes(unsized)
    ids: dict[Any, int | None] = {}
    for i, (one, place) in enumerate(zip(given, placed)):
        width, height = one.get("width"), one.get("height")
        if not (width and height):
            if place not in sizes:
                notes.add("images left out, which have no width and height and cannot be read", f"{name}, images[{i}]")
                ids[one["id"]] = None
                continue
            width, height = sizes[place]
            notes.add("images whose width and height were read from their files", f"{name}, images[{i}]")
        ids[one["id"]] = book.add_image(
            place or posixpath.normpath(posixpath.join(near, one["file_name"])), width, height, original_id=one["id"]
        )
    return ids


def complete(made: dict, given: dict, size: tuple[float, float], where: str, notes: Notes) -> None:
    """Fills in the box, the mask, the area and the crowd flag of an annotation, in place.

    Args:
        made: the annotation to complete, with the box that was given.
        given: the annotation of the file.
        size: height and width of its image.
        where: the file and entry, for errors.
        notes: are told what was completed or turned.
    """
    source, mask = made["source"], given.get("segmentation")
    if mask:
        mask = right_form(mask, made["bbox"], size, where, source, notes)
    elif mask is not None and mask != []:
        raise UserError(f"{where}: segmentation is {shown(mask)}; allowed: polygons, or run lengths")
    if mask:
        made["segmentation"] = mask
    if not made["bbox"]:
        if not mask:
            raise UserError(f"{where}: no bbox and no segmentation; allowed: one of them, or both")
        made["bbox"] = box_of(mask, where)
        notes.add("boxes computed from masks", source)
    crowd = given.get("iscrowd")
    made["iscrowd"] = int(crowd or 0)
    if crowd is None:
        notes.add("annotations without iscrowd, taken as 0", source)
    made["area"] = given.get("area")
    if made["area"] is None:
        made["area"] = area_of(mask, made["bbox"])
        notes.add("areas computed from masks or boxes", source)
    if given.get("ignore"):
        made["ignore"] = 1


def roofs_of(categories: list[dict], names: list[str]) -> set[str]:
    """Categories that only stand above the others, as Roboflow's export has one: no ``supercategory`` of their own."""
    above = {one.get("supercategory") for one in categories}
    return {name for one, name in zip(categories, names) if one.get("supercategory") == "none" and name in above}


def drop_roofs(books: Iterable[Book], roofs: set[str], notes: Notes) -> None:
    """Leaves out the categories above others that no object of any split has."""
    books = list(books)
    used = {one["category_id"] for book in books for one in book.annotations}
    for name in sorted(roofs - used):
        for book in books:
            book.names = [other for other in book.names if other != name]
        notes.add("categories without objects left out, which only stand above the others", repr(name))
