"""The form of the entries of COCO's annotation files, checked before any library reads them.

pycocotools is compiled code, which crashes on values of another type. So every value that somebody reads is looked at.
The lists are walked once for each key, by built-in functions: a file of a million annotations takes seconds.
"""

from collections.abc import Callable
from typing import Any

from backbones.errors import shorten, shown
from backbones.files import is_path

MOST_PIXELS = 1 << 31  # of an image: pycocotools counts them in 32 bits
LARGEST = 1 << 53  # floats hold the integers up to here

Rules = dict[
    str, tuple[str, Callable[[Any], bool]]
]  # key -> what is allowed, in words and as a function; absent is None


class Flawed(ValueError):
    """The entries of a file are of another form. The message says which, without the name of the file."""


def check_form(data: dict[str, Any], annotation: Rules, category: Rules | None = None) -> None:
    """Checks that all entries of a file are dicts, whose keys are there and of the right types.

    Args:
        data: the content of the file, in which images and categories are lists.
        annotation: the rules for annotations. The list of annotations may be absent.
        category: rules for categories beside those of every file.

    Raises:
        Flawed: an entry is of another form.
    """
    annotations = data.get("annotations")
    if not isinstance(annotations, list | None):
        raise Flawed(f"annotations is {shown(annotations)}; allowed: a list")
    check_entries(data["images"], "images", IMAGE)
    check_entries(data["categories"], "categories", CATEGORY | (category or {}))
    check_entries(annotations or [], "annotations", annotation)
    large = [image["id"] for image in data["images"] if image["width"] * image["height"] >= MOST_PIXELS]
    if large:
        raise Flawed(f"images of {MOST_PIXELS} pixels or more: {shorten(large)}; allowed: fewer pixels")


def check_entries(entries: list[Any], what: str, rules: Rules) -> None:
    """Raises ``Flawed`` for entries of another form. ``what`` is the name of their list."""
    others = [i for i, entry in enumerate(entries) if not isinstance(entry, dict)]
    if others:
        raise Flawed(f"{what} {shorten(others)}, counted from 0, are no dicts, such as {shown(entries[others[0]])}")
    for key, (allowed, rule) in rules.items():
        bad = [i for i, entry in enumerate(entries) if not rule(entry.get(key))]
        if bad:
            entry = entries[bad[0]]
            given = f"is {shown(entry[key])}" if key in entry else "is absent"
            raise Flawed(f"{key} of {what} {shorten(bad)}, counted from 0, {given}; allowed: {allowed}")


def is_integer(value: Any) -> bool:
    return type(value) is int and -LARGEST <= value <= LARGEST


def is_id(value: Any) -> bool:
    return type(value) is str or is_integer(value)


def is_name(value: Any) -> bool:
    """Whether this can be the name of a file, perhaps in folders."""
    return type(value) is str and value.split("/")[-1] not in ("", ".", "..") and is_path(value)


def is_side(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value < MOST_PIXELS and value == int(value)


def is_number(value: Any) -> bool:
    """Whether this is a finite number, small enough that sums and products of such numbers are finite, too."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and min(box[2:]) >= 0


ID = ("an integer or a text", is_id)
SIDE = ("a whole number of pixels, from 1", is_side)
IMAGE: Rules = {"id": ID, "file_name": ("the name of a file", is_name), "width": SIDE, "height": SIDE}
CATEGORY: Rules = {"id": ("an integer", is_integer), "name": ("a text", lambda value: type(value) is str)}
