"""The one form that annotations of every format are read into: the content of a COCO json.

Each annotation also has ``source``, the file and line or entry that it came from, such as ``labels/train/1.txt:3``.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from backbones.errors import UserError, shorten

MOST_PIXELS = 1 << 28  # of an image with masks that are laid out here
FARTHEST = 1 << 20  # pixels
DIGITS = 4  # of pixels: coordinates are rounded to a ten-thousandth


class FlawedData(UserError):
    """Entries of annotation files cannot be read.

    Args:
        flaws: the message of each entry.
    """

    def __init__(self, flaws: Sequence[str]):
        self.flaws = list(flaws)
        more = f"; {len(flaws):,} entries are flawed, and tools/check_dataset.py counts them" if len(flaws) > 1 else ""
        super().__init__(f"{flaws[0]}{more}")


class Notes:
    """What a reader completed, turned or left out: counted, with the first places of each kind.

    Args:
        flaws: takes the message of each entry that cannot be read, and the reader goes on with the next one. None lets
            the first such entry end the reading.
    """

    def __init__(self, flaws: list[str] | None = None):
        self.kinds: dict[str, list[Any]] = {}  # what -> [count, first places]
        self.flaws = flaws

    @contextlib.contextmanager
    def entry(self) -> Iterator[None]:
        """A block that reads one entry."""
        try:
            yield
        except UserError as error:
            if self.flaws is None:
                raise
            self.flaws.append(str(error))

    def add(self, what: str, source: str) -> None:
        count_and_places = self.kinds.setdefault(what, [0, []])
        count_and_places[0] += 1
        if len(count_and_places[1]) < 3:
            count_and_places[1].append(source)

    def as_list(self) -> list[dict[str, Any]]:
        """A dict ``what``, ``count``, ``first`` for each kind."""
        return [dict(what=what, count=count, first=first) for what, (count, first) in self.kinds.items()]


def line_of(note: dict[str, Any]) -> str:
    """A note of :meth:`Notes.as_list` as a text."""
    more = ", ..." if note["count"] > len(note["first"]) else ""
    return f"{note['count']} {note['what']}: {', '.join(note['first'])}{more}"


class Book:
    """The images and objects of one split, as a reader finds them.

    Args:
        names: the classes that the format lists, in its order.
    """

    def __init__(self, names: Iterable[str] = ()):
        self.names = list(names)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add_image(self, file_name: str, width: float, height: float, **more: Any) -> int:
        """Adds an image, and returns its id. ``file_name`` is below the data's root. Sizes are in pixels."""
        self.images.append(dict(id=len(self.images) + 1, file_name=file_name, width=width, height=height, **more))
        return len(self.images)

    def add_object(
        self,
        image_id: int,
        name: str,
        box: Sequence[float],
        source: str,
        segmentation: Any = None,
        area: float | None = None,
        crowd: int = 0,
    ) -> None:
        """Adds an object.

        Args:
            image_id: of :meth:`add_image`.
            name: its class.
            box: x, y, width and height in pixels. x and y are those of its left upper corner, from 0.
            source: the file and line or entry.
            segmentation: polygons or run lengths in COCO's form; None for an object without a mask.
            area: in square pixels; None takes that of the box.
            crowd: 1 for an object that counts neither as found nor as missed.

        Raises:
            UserError: a value of the box is of more than a million pixels.
        """
        box = [round(float(value), DIGITS) for value in box]
        if not all(abs(value) <= FARTHEST for value in box):
            raise UserError(f"{source}: the box is {box}; allowed: up to {FARTHEST:,} pixels")
        made = dict(image_id=image_id, category_id=name, bbox=box, iscrowd=crowd, source=source)
        made["area"] = round(float(box[2] * box[3] if area is None else area), DIGITS)
        if segmentation is not None:
            made["segmentation"] = segmentation
        self.annotations.append(made)

    def of_images(self, file_names: set[str]) -> "Book":
        """A book of some images."""
        part = Book(self.names)
        ids = {}
        for image in self.images:
            if image["file_name"] in file_names:
                ids[image["id"]] = len(part.images) + 1
                part.images.append(dict(image, id=len(part.images) + 1))
        kept = (one for one in self.annotations if one["image_id"] in ids)
        part.annotations = [dict(one, image_id=ids[one["image_id"]]) for one in kept]
        return part


def classes_of(books: Iterable[Book]) -> list[str]:
    """The classes of all splits in one order: those that the files list, in their order, then the others, sorted."""
    books = list(books)
    listed = dict.fromkeys(name for book in books for name in book.names)
    used = {one["category_id"] for book in books for one in book.annotations}
    return [*listed, *sorted(used - listed.keys())]


def content_of(book: Book, classes: Sequence[str], info: dict[str, Any]) -> dict[str, Any]:
    """The content of a COCO json. Images, annotations and categories are numbered from 1, in their order."""
    ids = {name: i + 1 for i, name in enumerate(classes)}
    return dict(
        info=info,
        images=book.images,
        annotations=[
            one | dict(id=i + 1, category_id=ids[one["category_id"]]) for i, one in enumerate(book.annotations)
        ],
        categories=[dict(id=i, name=name) for name, i in ids.items()],
    )


def polygon_object(points: Sequence[float]) -> tuple[list[float], float]:
    """Box (x, y, width, height) and area of a polygon x, y, x, y, ... in pixels."""
    return box_around([points]), abs(signed_area(points))


def box_around(polygons: Iterable[Sequence[float]]) -> list[float]:
    """x, y, width, height around polygons."""
    polygons = list(polygons)
    left, top = (min(min(points[i::2]) for points in polygons) for i in (0, 1))
    right, bottom = (max(max(points[i::2]) for points in polygons) for i in (0, 1))
    return [left, top, right - left, bottom - top]


def signed_area(points: Sequence[float]) -> float:
    """The area of a polygon, by its corners. Negative where the corners go round the other way."""
    xs, ys = points[0::2], points[1::2]
    return sum(x * y2 - x2 * y for x, y, x2, y2 in zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]])) / 2


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """The corners of a rectangle as a polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def check_pixels(width: int, height: int, where: str) -> None:
    """Raises UserError for an image whose masks are too large to be laid out. ``where`` is its file and entry."""
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{where}: an image of {width} x {height} pixels; allowed: up to {MOST_PIXELS} pixels with masks"
        )


def check_names(names: Sequence[Any], where: str) -> list[str]:
    """Class names as texts; UserError for an empty or repeated name, or for anything but texts and numbers."""
    odd = [name for name in names if isinstance(name, bool) or not isinstance(name, str | int | float) or name == ""]
    if odd:
        raise UserError(f"{where}: class names {shorten(map(repr, odd))}; allowed: texts")
    texts = [str(name).strip() for name in names]
    twice = sorted({name for name in texts if texts.count(name) > 1})
    if twice:
        raise UserError(f"{where}: several classes have the name {shorten(twice)}; allowed: each name once")
    return texts
