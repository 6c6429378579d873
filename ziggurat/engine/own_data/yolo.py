"""YOLO's text labels: boxes, polygons, or both, with or without data.yaml.

Each line of a label file is one object: the number of its class, from 0, then x and y of the centre, width and height
of the box; or x, y, x, y, ... of three or more points of a polygon. All are shares of the image's sides, from 0 to 1.
A further number is a confidence, as predictions have it, and is left out. An image without a label file has no object.

The label file of ``images/a.jpg`` is ``labels/a.txt``, else it lies beside the image.
"""

import posixpath
import re
from typing import Any

from backbones.errors import UserError, shorten, shown
from ziggurat.engine.own_data.content import Book, Notes, check_names, polygon_object
from ziggurat.engine.own_data.listing import ALL, Listing, split_of_folder
from ziggurat.engine.own_data.reading import number_of, read_text, read_yaml

SPLITS = ("train", "val", "test")
KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # of data.yaml
NAME_FILES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
SLACK = 0.01  # a value may leave 0..1 by so much, by rounding
BOX, LEAST = 5, 7  # numbers in the line of a box, and of the smallest polygon


def find(listing: Listing) -> dict[str, list[str]]:
    """The images of each split, where there is a label file or a data.yaml; else nothing."""
    config = data_yaml(listing)
    if config is not None:
        given = splits_of_yaml(listing, *config)
        if given:
            return given
    labelled = [name for name in listing.images if label_of(listing, name)]
    if not labelled:
        return {}
    # Folders that hold no label at all, such as a folder of further pictures, are not of the data set.
    folders = {posixpath.dirname(name) for name in labelled}
    splits: dict[str, list[str]] = {}
    for name in listing.images:
        if posixpath.dirname(name) in folders:
            splits.setdefault(split_of_folder(name) or ALL, []).append(name)
    return splits


def data_yaml(listing: Listing) -> tuple[str, dict[str, Any]] | None:
    """The name and content of the YAML file that describes a data set; None without one. UserError for several."""
    found = []
    for name in (name for name in listing.named(".yaml", ".yml") if name.count("/") <= 1):
        text = read_text(listing.path(name)) if listing.files[name][0] < 1 << 20 else ""
        if re.search(r"^names\s*:", text, re.M) and re.search(r"^(train|val)\s*:", text, re.M):
            content = read_yaml(listing.path(name))
            if isinstance(content, dict):
                found.append((name, content))
    if len(found) > 1:
        files = shorten(name for name, _ in found)
        raise UserError(f"{listing.root}: several files describe YOLO data: {files}; allowed: one of them as the data")
    return found[0] if found else None


def splits_of_yaml(listing: Listing, name: str, config: dict[str, Any]) -> dict[str, list[str]]:
    """The images of each split, by ``train``, ``val`` and ``test`` of data.yaml: folders, or lists of images."""
    where = listing.path(name)
    splits: dict[str, list[str]] = {}
    for split in SPLITS:
        given = next((config[key] for key in KEYS[split] if config.get(key)), None)
        for entry in given if isinstance(given, list) else [given] if given else []:
            if not isinstance(entry, str):
                raise UserError(
                    f"{where}: {split} is {shown(entry)}; allowed: a folder, a .txt file, or a list of these"
                )
            splits.setdefault(split, []).extend(images_of(listing, name, config.get("path"), split, entry))
    return {split: sorted(set(names)) for split, names in splits.items() if names}


def images_of(listing: Listing, name: str, base: Any, split: str, entry: str) -> list[str]:
    """The images that an entry of data.yaml names.

    The entry is looked up below ``path``, beside data.yaml and in the root. A leading ``../`` is also tried without, as
    exports of Roboflow have one too many.
    """
    here = posixpath.dirname(name)
    bases = (
        [here, ""] if not isinstance(base, str) else [below(listing, here, base), below(listing, "", base), here, ""]
    )
    bare = re.sub(r"^(\.\.?/)+", "", entry.replace("\\", "/"))
    for folder in bases:
        for path in (below(listing, folder, entry), posixpath.normpath(posixpath.join(folder, bare))):
            if path.endswith(".txt") and path in listing.files:
                return listed_images(listing, path)
            inside = "" if path == "." else f"{path}/"
            found = [image for image in listing.images if image.startswith(inside)] if path != ".." else []
            if found:
                return found
    if split == "test":  # many files name a test set that was never given away
        return []
    folders = sorted({posixpath.dirname(image) or "." for image in listing.images})
    raise UserError(
        f"{listing.path(name)}: {split} is {entry!r}, and no images are there; allowed: a folder or a .txt file inside "
        f"{listing.root}, whose folders with images are {shorten(folders)}"
    )


def below(listing: Listing, folder: str, path: str) -> str:
    """A path of data.yaml as a name below the root. An absolute path counts if it lies in the root."""
    text = path.replace("\\", "/")
    root = str(listing.root.resolve())
    if text == root or text.startswith(f"{root}/"):
        return posixpath.normpath(text[len(root) + 1 :] or ".")
    return posixpath.normpath(posixpath.join(folder, text))


def listed_images(listing: Listing, name: str) -> list[str]:
    """The images in a text file, one a line."""
    found, here = [], posixpath.dirname(name)
    for number, line in enumerate(read_text(listing.path(name)).splitlines(), 1):
        if line.strip():
            image = listing.image(line.strip(), here)
            if image is None:
                raise UserError(
                    f"{listing.path(name)}:{number}: no image {line.strip()!r}; allowed: images inside {listing.root}"
                )
            found.append(image)
    return found


def label_of(listing: Listing, image: str) -> str | None:
    """The name of an image's label file; None if there is none."""
    stem = posixpath.splitext(image)[0]
    head, found, tail = f"/{stem}".rpartition("/images/")
    for name in ([f"{head}/labels/{tail}.txt"[1:]] if found else []) + [f"{stem}.txt"]:
        if name in listing.files:
            return name
    return None


def class_names(listing: Listing) -> list[str]:
    """The names in data.yaml, else in a file such as classes.txt; [] without one."""
    config = data_yaml(listing)
    if config is not None:
        name, content = config
        where, names = listing.path(name), content.get("names")
        if isinstance(names, dict):
            keys = [int(key) if str(key).isdecimal() else key for key in names]
            if sorted(map(str, keys)) != sorted(map(str, range(len(keys)))):
                raise UserError(f"{where}: names has the numbers {shorten(keys, 10)}; allowed: 0 to {len(keys) - 1}")
            names = [value for _, value in sorted(zip(keys, names.values()))]
        if not isinstance(names, list) or not names:
            raise UserError(f"{where}: names is {shown(names)}; allowed: a list of names, or a dict of number and name")
        count = content.get("nc")
        if count is not None and count != len(names):
            raise UserError(f"{where}: nc is {count!r}, and there are {len(names)} names; allowed: the same number")
        return check_names(names, f"{where}, names")
    for name in sorted(listing.files, key=lambda name: name.count("/")):
        if posixpath.basename(name).lower() in NAME_FILES:
            lines = [line.strip() for line in read_text(listing.path(name)).splitlines()]
            return check_names([line for line in lines if line], str(listing.path(name)))
    return []


def read(listing: Listing, splits: dict[str, list[str]], options: Any, notes: Notes) -> dict[str, Book]:
    """The books of all splits.

    Raises:
        UserError: a line is no object, names a class that is not there, or has values outside 0..1. The message names
            file and line.
    """
    names = class_names(listing)
    lines = {split: {image: lines_of(listing, image, notes) for image in images} for split, images in splits.items()}
    if not names:
        numbers = [one[1] for images in lines.values() for rows in images.values() for one in rows]
        names = [str(number) for number in range(max(numbers, default=-1) + 1)]
        notes.add("classes named by their numbers, since no data.yaml or classes.txt names them", str(listing.root))
    sizes = listing.sizes(name for images in splits.values() for name in images)
    books = {}
    for split, images in lines.items():
        books[split] = book = Book(names)
        for image, rows in images.items():
            if image not in sizes:
                notes.add("images left out, since they cannot be read", image)
                continue
            width, height = sizes[image]
            image_id = book.add_image(image, width, height)
            for source, number, values in rows:
                with notes.entry():
                    add_row(book, image_id, (width, height), listing, source, number, values, notes)
    used = {label_of(listing, image) for images in splits.values() for image in images}
    for name in listing.named(".txt"):
        if name not in used and f"/{name}".rfind("/labels/") >= 0 and posixpath.basename(name) not in NAME_FILES:
            notes.add("label files left out, which have no image", name)
    return books


def lines_of(listing: Listing, image: str, notes: Notes) -> list[tuple[str, int, list[str]]]:
    """(file:line, number of the class, the other values) of each object of an image."""
    label = label_of(listing, image)
    if label is None:
        return []
    rows, lines = [], []
    with notes.entry():
        lines = read_text(listing.path(label)).splitlines()
    for i, line in enumerate(lines, 1):
        values = line.split()
        if not values:
            continue
        with notes.entry():
            number = number_of(values[0], f"{listing.path(label)}:{i}", "the class")
            if number != int(number) or number < 0:
                raise UserError(f"{listing.path(label)}:{i}: the class is {values[0]}; allowed: 0, 1, 2, ...")
            rows.append((f"{label}:{i}", int(number), values[1:]))
    return rows


def add_row(
    book: Book,
    image_id: int,
    size: tuple[int, int],
    listing: Listing,
    source: str,
    number: int,
    values: list[str],
    notes: Notes,
) -> None:
    """Adds the object of a line to a book."""
    where = listing.path(source)
    if number >= len(book.names):
        last = len(book.names) - 1
        raise UserError(f"{where}: the class is {number}; allowed: 0 to {last}, since there are {last + 1} names")
    count = len(values) + 1
    if count > BOX and count % 2 == 0:
        values = values[:-1]
        notes.add("confidences left out", source)
    if len(values) + 1 != BOX and len(values) + 1 < LEAST:
        raise UserError(
            f"{where}: {count} values; allowed: the class and x, y, width, height of a box, or the class and x, y of "
            "three or more points"
        )
    shares = [number_of(value, str(where), "a value") for value in values]
    if min(shares) < -SLACK or max(shares) > 1 + SLACK:
        outside = next(value for value, share in zip(values, shares) if not -SLACK <= share <= 1 + SLACK)
        raise UserError(f"{where}: {outside}; allowed: shares of the image's width and height, from 0 to 1")
    width, height = size
    if len(shares) == BOX - 1:
        x, y, across, down = shares
        box = [(x - across / 2) * width, (y - down / 2) * height, across * width, down * height]
        book.add_object(image_id, book.names[number], box, source)
        return
    points = [round(share * side, 4) for share, side in zip(shares, [width, height] * (len(shares) // 2))]
    box, area = polygon_object(points)
    book.add_object(image_id, book.names[number], box, source, [points], area)
