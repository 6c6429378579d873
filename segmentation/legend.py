"""Which values or colours of a mask are which class: ``legend=``, as a dict or a file.

A dict has a value (0 to 65535) or a colour ``[red, green, blue]`` for each class, and the classes are in its order::

    legend = {"ground": 0, "crack": 255}
    legend = {"road": [128, 64, 128], "car": [0, 0, 142], "ignore": "rest"}

A name of ``IGNORED`` is no class: such pixels are unlabelled. ``"rest"`` stands for all values that the legend does not
have. In a file each line has a name and a value or three numbers of a colour, in any order. Lines of names alone number
the classes from 0. A JSON file has the dict.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backbones.errors import UserError, shorten, shown
from ziggurat.engine.own_data.reading import read_json, read_text

IGNORED = ("ignore", "ignored", "void", "unlabelled", "unlabeled")
REST = "rest"
IGNORE = 255
MOST = 1 << 16  # values of a mask

Legend = dict[str, Any]


def checked_legend(given: Any, where: str = "legend") -> Legend:
    """A legend of plain dicts, lists and numbers.

    Raises:
        UserError: this is no legend, or a value or colour occurs twice.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"{where}={shown(given)}; allowed: {{'name': VALUE, ...}}, {{'name': [R, G, B], ...}}, or a file"
        )
    legend: Legend = {}
    for name, value in given.items():
        if is_ignored(name) and value == REST:
            legend[str(name)] = REST
        elif is_number(value, MOST):
            legend[str(name)] = int(value)
        elif isinstance(value, list | tuple) and len(value) == 3 and all(is_number(one, 256) for one in value):
            legend[str(name)] = [int(one) for one in value]
        else:
            raise UserError(f"{where}: {name!r} is {shown(value)}; allowed: a value from 0, or a colour [R, G, B]")
    entries = [str(value) for value in legend.values() if value != REST]
    twice = sorted({entry for entry in entries if entries.count(entry) > 1})
    if twice:
        raise UserError(f"{where}: several names have {shorten(twice)}; allowed: each value or colour once")
    if len({type(value) for value in legend.values() if value != REST}) > 1:
        raise UserError(f"{where}: values and colours; allowed: one kind for all names")
    if not 0 < len(class_names(legend)) < IGNORE:
        raise UserError(f"{where}: {len(class_names(legend))} classes; allowed: 1 to {IGNORE - 1}")
    return legend


def is_number(value: Any, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def is_ignored(name: Any) -> bool:
    return str(name).lower() in IGNORED


def class_names(legend: Mapping[str, Any]) -> list[str]:
    """The names of a legend that are classes, in its order."""
    return [name for name in legend if not is_ignored(name)]


def has_colours(legend: Mapping[str, Any]) -> bool:
    return any(isinstance(value, list | tuple) for value in legend.values())


def read_legend(path: Path) -> Legend:
    """The legend of a file. UserError for a file that is none."""
    if path.suffix.lower() == ".json":
        return checked_legend(read_json(path), str(path))
    lines = [line.split("#")[0].strip() for line in read_text(path).splitlines()]
    rows = [row_of(line) for line in lines if line]
    if rows and not rows[0][1] and any(numbers for _, numbers in rows):
        rows = rows[1:]  # the names of columns
    counts = {len(numbers) for _, numbers in rows}
    if not rows or len(counts) != 1 or not counts <= {0, 1, 3} or not all(name for name, _ in rows):
        raise UserError(f"{path}: no legend; allowed: a name on each line, with a value, a colour R G B, or nothing")
    names = [name for name, _ in rows]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"{path}: several lines have the name {shorten(twice)}; allowed: each name once")
    values = [i if not numbers else numbers if len(numbers) == 3 else numbers[0] for i, (_, numbers) in enumerate(rows)]
    return checked_legend(dict(zip(names, values)), str(path))


def row_of(line: str) -> tuple[str, list[int]]:
    """The name and the numbers of a line, such as ``128 64 128 road``, ``road,128,64,128`` or ``road:128,64,128::``."""
    parts = [part.strip() for part in re.split(r"[,;:\t]", line)]
    if len([part for part in parts if part]) < 2:
        parts = line.split()
    parts = [word for part in parts for word in (part.split() if re.fullmatch(r"[\d\s]+", part) else [part])]
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) == len(parts) and len(parts) > 1:  # a name that is a number
        return parts[0], numbers[1:]
    return " ".join(part for part in parts if part and not part.isdecimal()), numbers


def indices(mask: np.ndarray, legend: Mapping[str, Any], path: str | Path) -> np.ndarray:
    """A mask as class indices, uint8 (H, W), with 255 for unlabelled pixels.

    Args:
        mask: (H, W) values, or (H, W, 3) colours, as the legend has them.
        legend: as :func:`checked_legend` gives it.
        path: the file, for errors.

    Raises:
        UserError: the mask has a value or colour that the legend has not.
    """
    mask = codes_in(mask)
    order = {name: i for i, name in enumerate(class_names(legend))}
    pairs = sorted((code_of(value), order.get(name, IGNORE)) for name, value in legend.items() if value != REST)
    codes, labels = np.array(pairs, np.int64).T
    places = np.minimum(np.searchsorted(codes, mask), len(codes) - 1)
    known = codes[places] == mask
    found = np.where(known, labels[places], IGNORE).astype(np.uint8)
    if not known.all() and REST not in legend.values():
        others = np.unique(mask[~known])
        if has_colours(legend):
            others = [f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]" for code in others.tolist()]
        kind = "colours" if has_colours(legend) else "mask values"
        raise UserError(
            f"{path}: {kind} {shorten(others)} are not in the legend; allowed: {shorten(map(str, legend.values()), 5)}"
            ", or 'ignore': 'rest' in the legend"
        )
    return found


def not_in(legend: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
    """Whether a legend lacks the value or colour of each pixel of a mask as for :func:`indices`, bool (H, W)."""
    if REST in legend.values():
        return np.zeros(mask.shape[:2], bool)
    return ~np.isin(codes_in(mask), [code_of(value) for value in legend.values()])


def codes_in(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) as it is, or colours (H, W, 3) as numbers (H, W)."""
    if mask.ndim == 2:
        return mask
    return mask[..., 0].astype(np.int64) << 16 | mask[..., 1].astype(np.int64) << 8 | mask[..., 2]


def code_of(value: Any) -> int:
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]
