"""A CSV file of paths and labels."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from backbones.errors import UserError, shorten
from classification.data.checks import LabelledFormat
from classification.data.images import SplitImages
from classification.data.samples import Samples, check_label, numbered_classes
from ziggurat.engine.formats import register_format
from ziggurat.engine.inside import check_inside
from ziggurat.engine.splits import under_root

COLUMNS = ("path", "label")


class Row(NamedTuple):
    """One image of a table."""

    path: str
    label: str
    line: int  # counted from 1


class CsvImages(SplitImages):
    """Images of a CSV file with the columns ``path`` and ``label``, UTF-8.

    A first line with both words is a header: further columns are then allowed, in any order. Without it the file has
    two columns. A path lies in ``data_root``. A label is the name of a class, or the class index from 0. The
    classes are the different labels, sorted; if all labels are whole numbers, they are 0 to the largest one. Of chosen
    ``classes`` that are numbers, each is the label itself.

    ``folder`` is the file, with or without ``.csv``: ``"train"`` is ``data_root/train.csv``. Arguments and errors:
    :class:`SplitImages`. A message about a row names file and line.
    """

    def find(self, classes: list[str] | None, skip_others: bool) -> tuple[list[str], Samples]:
        file = table_file(Path(self.data_root) / self.folder)
        rows = read_table(file)
        check_inside(file, "a path", (row.path for row in rows), self.data_root)
        classes = classes or table_classes(rows, str(file))
        labels = row_labels(rows, classes, file, skip_others)
        named = ((str(Path(self.data_root) / row.path), label) for row, label in zip(rows, labels) if label >= 0)
        return classes, Samples(named)


def table_file(path: Path) -> Path:
    return path if path.suffix == ".csv" else path.with_name(f"{path.name}.csv")


def read_table(file: Path) -> list[Row]:
    """The rows of a CSV file of path and label.

    Raises:
        UserError: the file is absent or has no rows, or a row has no path or no label.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except FileNotFoundError:
        raise UserError(f"no table {file}; allowed: a CSV file with the columns path,label") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"table {file} cannot be read: {error}") from None
    at, width = (0, 1), 2
    head = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if set(COLUMNS) <= set(head):
        at, width = tuple(head.index(name) for name in COLUMNS), len(head)
        lines = lines[1:]
    elif lines and not Path(lines[0][1][0].strip()).suffix:
        raise UserError(f"{file}, line {lines[0][0]}: columns {','.join(lines[0][1])}; allowed: {','.join(COLUMNS)}")
    for number, cells in lines:
        if len(cells) != width or not all(cells[i].strip() for i in at):
            raise UserError(f"{file}, line {number}: {','.join(cells)!r}; allowed: a path and a label, as path,label")
    if not lines:
        raise UserError(f"table {file} has no rows; allowed: a row path,label for each image")
    return [Row(cells[at[0]].strip(), cells[at[1]].strip(), number) for number, cells in lines]


def table_classes(rows: Sequence[Row], where: str) -> list[str]:
    """The class names of a table: its labels, sorted, or the numbers 0 to the largest label."""
    labels = {row.label for row in rows}
    if all(label.removeprefix("-").isdecimal() for label in labels):
        return numbered_classes(map(int, labels), where)
    return sorted(labels)


def row_labels(rows: Sequence[Row], classes: Sequence[str], file: Path, skip_others: bool = False) -> list[int]:
    """The class index of each row. -1 skips a row.

    A label is the name of a class. Where no class has a number as its name, a number is the index of a class.

    Raises:
        UserError: a label is no name and no index of a class, and ``skip_others`` is false.
    """
    index = {name: i for i, name in enumerate(classes)}
    are_numbers = any(name.isdecimal() for name in classes)
    found = []
    for row in rows:
        label = index.get(row.label, -1)
        if label < 0 and not are_numbers and row.label.removeprefix("-").isdecimal():
            label = int(row.label)
            check_label(label, len(classes), f"{file}, line {row.line}")
        elif label < 0 and not skip_others:
            raise UserError(f"{file}, line {row.line}: label {row.label!r} is no class; allowed: {shorten(classes)}")
        found.append(label)
    return found


@register_format(CsvImages)
class CsvFormat(LabelledFormat):
    """A CSV file of paths and labels."""

    def classes(self, dataset: Any) -> tuple[str, ...] | None:
        file = table_file(under_root(dataset, dataset.folder))
        return tuple(table_classes(read_table(file), str(file))) if file.is_file() else None
