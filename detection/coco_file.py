"""Reading annotation files in COCO's format, once per process."""

import json
import mmap
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from backbones import UserError
from backbones.errors import shorten
from detection.coco_entries import Annotations, summary
from ziggurat.engine.coco_schema import Flawed
from ziggurat.engine.own_data.reading import no_garbage
from ziggurat.engine.splits import under_root

LARGE = 1 << 22  # bytes of a file that is not read for its categories alone


def image_folder(dataset: Any) -> Path:
    """The folder in which the file names of a data set's annotation file lie."""
    return under_root(dataset, (dataset.get("data_prefix") or {}).get("img", ""))


def read_annotations(path: Path) -> Annotations:
    """Reads a COCO file, once per process; UserError if the file is missing or is not COCO json."""
    return read_content(path, summary)


def category_names(path: Path) -> tuple[str, ...]:
    """The names of the categories of a COCO file, in its order.

    Of a large file only the list of categories is read, if it can be told: the training file of COCO has 450 MB.

    Raises:
        UserError: as :func:`read_annotations`.
    """
    if path.stat().st_size < LARGE:
        return read_annotations(path).categories
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        places = list(re.finditer(rb'"categories"\s*:\s*(?=\[\s*\{)', text))
        part = text[places[0].end() : places[0].end() + LARGE] if len(places) == 1 else b""
    try:
        found, _ = json.JSONDecoder().raw_decode(part.decode(errors="ignore"))
        return tuple(str(category["name"]) for category in found)
    except (ValueError, TypeError, KeyError, RecursionError):
        return read_annotations(path).categories


def read_content(path: Path, summarise: Callable[[dict], Any]) -> Any:
    """What ``summarise`` makes of a COCO-like json, read once per process.

    Raises:
        UserError: the file is missing, broken, or has no images or categories, or an entry is of another form.
    """
    try:
        stat = path.stat()
    except OSError:
        others = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        there = f"json files there: {shorten(others)}" if others else "there is no json file in that folder"
        raise UserError(f"no annotation file {path}; {there}") from None
    with no_garbage():
        return parse(path, stat.st_mtime_ns, stat.st_size, summarise)


@lru_cache(maxsize=8)
def parse(path: Path, mtime: int, size: int, summarise: Callable[[dict], Any]) -> Any:
    try:
        data = json.loads(path.read_bytes())
    except RecursionError:
        raise UserError(f"{path}: not COCO json, but lists in lists without end") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: broken json at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (OSError, ValueError) as error:  # no text, or a number of more digits than Python reads
        raise UserError(f"{path}: cannot be read ({error})") from None
    lists = ("images", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(key), list) for key in lists):
        raise UserError(f"{path}: not COCO json; needed: a dict with the lists images, annotations and categories")
    for key in lists:
        if not data[key]:
            raise UserError(f"{path}: the list {key} is empty")
    try:
        return summarise(data)
    except Flawed as flaw:
        raise UserError(f"{path}: {flaw}") from None
