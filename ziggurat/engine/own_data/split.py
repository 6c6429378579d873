"""Validation images taken from data that have none: a share of the images, by class or by group, written to a file.

The file names one validation image a line, and may be edited. Later runs take it as it is. An image that came later
and is not in the file is trained on, unless its group is in the file.
"""

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from backbones.errors import UserError, shorten, shown
from backbones.files import replaced_file
from ziggurat.engine.console import say_note
from ziggurat.engine.own_data.content import Book
from ziggurat.engine.own_data.listing import ALL

HEAD = "# Validation images, one a line. This file may be edited; every other image is trained on.\n"

PATTERN = "a regular expression of file names, such as '^(.+)_'"
SPECIAL = frozenset(r"\^$.*+?()[]{}|")  # a text with one of these is a regular expression, if it is no column


class SplitOptions(NamedTuple):
    """How validation images are taken.

    Attributes:
        share: the share of the images, between 0 and 1.
        group: images of one group stay together, such as those of a patient or a video. This is the name of a column
            that has each image's group, for data that are a CSV file, see :func:`group_column`. Or it is a regular
            expression: images in whose names its first group, or the whole of it, finds the same text are one group. ""
            takes each image alone.
        seed: of the choice.
    """

    share: float
    group: str = ""
    seed: int = 0

    def check(self) -> None:
        """Raises UserError for a value that is not allowed."""
        is_number = isinstance(self.share, int | float) and not isinstance(self.share, bool)
        if not is_number or not 0 < self.share < 1:
            raise UserError(f"val_share={self.share!r}; allowed: a number between 0 and 1, such as 0.2")
        if type(self.seed) is not int:
            raise UserError(f"val_seed={self.seed!r}; allowed: an integer")
        try:
            re.compile(self.group)
        except (re.error, TypeError) as error:
            raise UserError(
                f"val_group={shown(self.group)}: {error}; allowed: {PATTERN}, or the name of a column"
            ) from None

    def file_name(self) -> str:
        """The name of the file that lists the images. Other options have another file."""
        further = hashlib.sha256(f"{self.group} {self.seed}".encode()).hexdigest()[:6]
        return f"val_images_{self.share:g}{f'_{further}' if self.group or self.seed else ''}.txt"


def group_column(group: str, head: Sequence[str], where: str) -> int | None:
    """The place of the column that ``val_group`` names in the first line of a table; None for a regular expression.

    A text that is a column is taken as that. Another text is a regular expression, if it has one of the characters that
    are special there.

    Args:
        group: the text; "" for no groups.
        head: the names of the columns. Capital letters do not matter.
        where: the table, for the message.

    Raises:
        UserError: the text is neither.
    """
    names = [cell.strip() for cell in head]
    folded = [name.casefold() for name in names]
    if group and group in names:
        return names.index(group)
    if group and group.casefold() in folded:
        return folded.index(group.casefold())
    if not SPECIAL.isdisjoint(group) or not group:
        return None
    raise UserError(
        f"{where}: val_group={group!r} is none of the columns {shorten(names, 30)}; allowed: one of these, or {PATTERN}"
    )


def with_validation(books: dict[str, Book], options: SplitOptions, file: Path, root: Path) -> dict[str, Book]:
    """The books with validation images, by the file if it is there, else by the options. The file is then written.

    An image of a book may have its group as ``group``, where a column has it.

    Raises:
        UserError: as :func:`validation_images`.
    """
    source = source_of(books, options, root)
    book = books[source]
    counts: dict[int, Counter] = {image["id"]: Counter() for image in book.images}
    for one in book.annotations:
        counts[one["image_id"]][one["category_id"]] += 1
    found = {image["file_name"]: counts[image["id"]] for image in book.images}
    groups = {image["file_name"]: image["group"] for image in book.images if "group" in image}
    chosen = validation_images(found, options, file, root, groups)
    rest = {key: one for key, one in books.items() if key != source}
    names = {image["file_name"] for image in book.images}
    return {"train": book.of_images(names - chosen), "val": book.of_images(chosen)} | rest


def split_pairs(
    pairs: dict[str, list[tuple[str, str]]],
    options: SplitOptions,
    file: Path,
    root: Path,
    classes: Callable[[str], Iterable[Any]],
    groups: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, list[tuple[str, str]]]:
    """As :func:`with_validation`, for pairs of an image and another file, in which ``classes`` finds classes.

    ``groups`` are those of the images, where a column has them.
    """
    source = source_of(pairs, options, root)
    counts = {image: Counter() if file.is_file() else Counter(classes(other)) for image, other in pairs[source]}
    chosen = validation_images(counts, options, file, root, groups)
    parts = {"train": [pair for pair in pairs[source] if pair[0] not in chosen]}
    parts["val"] = [pair for pair in pairs[source] if pair[0] in chosen]
    return parts | {key: one for key, one in pairs.items() if key != source}


def source_of(splits: Container[str], options: SplitOptions, root: Path) -> str:
    """The split to take validation images of. UserError if there are validation images, or no training images."""
    if "val" in splits:
        raise UserError(f"{root} has validation images, and val_share is {options.share}; allowed: val_share=None")
    source = ALL if ALL in splits else "train"
    if source not in splits:
        raise UserError(f"{root} has no training images to take val_share={options.share} of")
    return source


def validation_images(
    counts: dict[str, Counter], options: SplitOptions, file: Path, root: Path, groups: Mapping[str, str]
) -> set[str]:
    """The names of the validation images, by the file if it is there, else by the options. The file is then written.

    Args:
        counts: of each image, how many objects of each class it has.
        options: how to choose.
        file: the list.
        root: of the data, for messages.
        groups: of the images, where a column has them; empty without such a column.

    Raises:
        UserError: a line of the file is no image, no image is left to train on or to validate on, or ``val_group`` is
            the name of a column, and the images have none.
    """
    if not groups and options.group and SPECIAL.isdisjoint(options.group):
        raise UserError(
            f"val_group={options.group!r} is the name of a column, and {root} has no table of images; allowed: "
            f"{PATTERN}"
        )
    groups = groups or {name: group_of(name, options.group) for name in counts}
    without = [name for name in counts if name not in groups]
    if without:
        raise UserError(
            f"val_group={options.group!r}: no group of {shorten(without)}; allowed: the column in all tables"
        )
    if file.is_file():
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        chosen = {line for line in lines if line and not line.startswith("#")}
        gone = sorted(chosen - counts.keys())
        if gone:
            raise UserError(f"{file}: no images {shorten(gone)} in {root}; allowed: names of its images, below it")
        if options.group:
            whole = {groups[name] for name in chosen}
            chosen = {name for name in counts if groups[name] in whole}
    else:
        chosen = choose(counts, options, groups)
    if not chosen or len(chosen) == len(counts):
        raise UserError(
            f"{root}: {len(chosen)} of {len(counts)} images are for validation; allowed: one or more, and one or more "
            f"to train on, by val_share, val_group or {file}"
        )
    if not file.is_file():
        with replaced_file(file) as beside:
            beside.write_text(HEAD + "".join(f"{name}\n" for name in counts if name in chosen), encoding="utf-8")
        say_note(f"{root}: {len(chosen)} of {len(counts)} images are for validation; {file} lists them")
    return chosen


def choose(images: dict[str, Counter], options: SplitOptions, groups: Mapping[str, str] | None = None) -> set[str]:
    """The validation images: of each class about the same share, and whole groups.

    This is iterative stratification (Sechidis et al., 2011, ECML): the class with the fewest objects goes first. Each
    group with this class goes to the side that lacks most of the class, then to the side that lacks most images.

    Args:
        images: name -> how many objects of each class.
        options: the share, the groups and the seed.
        groups: of the images; None finds them by the regular expression.
    """
    members: dict[str, list[str]] = defaultdict(list)
    counts: dict[str, Counter] = defaultdict(Counter)
    for name, found in images.items():
        group = group_of(name, options.group) if groups is None else groups[name]
        members[group].append(name)
        counts[group].update(found)
    total = sum(counts.values(), Counter())
    shares = {"val": options.share, "train": 1 - options.share}
    lacking = {side: {name: share * count for name, count in total.items()} for side, share in shares.items()}
    room = {side: share * len(images) for side, share in shares.items()}
    side_of: dict[str, str] = {}

    def put(group: str, name: Any) -> None:
        side = max(shares, key=lambda side: (lacking[side].get(name, 0.0), room[side]))
        side_of[group] = side
        room[side] -= len(members[group])
        for key, count in counts[group].items():
            lacking[side][key] -= count

    order = sorted(members)
    random.Random(options.seed).shuffle(order)
    having: dict[Any, list[str]] = defaultdict(list)
    for group in order:
        for name in counts[group]:
            having[name].append(group)
    for name in sorted(total, key=lambda name: (total[name], str(name))):
        for group in sorted(having[name], key=lambda group: -counts[group][name]):
            if group not in side_of:
                put(group, name)
    for group in order:
        if group not in side_of:
            put(group, None)
    return {name for group, side in side_of.items() if side == "val" for name in members[group]}


def group_of(name: str, pattern: str) -> str:
    """The text that images of a group share; the name itself without a pattern or where the pattern finds nothing."""
    found = re.search(pattern, name) if pattern else None
    return name if found is None else found[1 if found.re.groups else 0] or name
