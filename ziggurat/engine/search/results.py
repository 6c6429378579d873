"""What a search found: as lines for people, and as a file."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from backbones.errors import UserError
from backbones.files import write_json
from backbones.store import FeatureStore
from backbones.store.search import Neighbour
from ziggurat.engine.cli import output_folder
from ziggurat.engine.tables import write_csv

SUFFIXES = (".json", ".csv")
WRITER = ("Software", "ziggurat search")  # an entry of the sheets' PNG
WORDS = {"cosine": "cosine", "euclidean": "distance"}  # metric -> the name of its scores


def lines_of(name: str, neighbours: Sequence[Neighbour], metric: str) -> Iterator[str]:
    """The neighbours of a query as a table."""
    yield name
    has_places = any(one.place for one in neighbours)
    yield f"{'rank':>6}{WORDS[metric]:>11}" + (f"{'row':>7}{'column':>8}" if has_places else "") + "  image"
    for rank, one in enumerate(neighbours, 1):
        place = "" if one.place is None else f"{one.place[0]:>7.0f}{one.place[1]:>8.0f}"
        yield f"{rank:>6}{one.score:>11.4f}{place}  {one.image}"


def check_result(path: Path | None, option: str, suffixes: Sequence[str], overwrite: bool, store: Path) -> None:
    """Raises UserError if a file to write has another suffix, or must not be replaced, or cannot be written.

    Files in the store are not written. With ``overwrite`` a file of an earlier search is replaced, and no other one.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{option} is {path}; allowed: a file with the suffix {', '.join(suffixes)}")
    if path.exists() and not overwrite:
        raise UserError(f"{option} {path} is there already; allowed: another file, or --overwrite to replace it")
    if path.exists() and not is_result(path):
        raise UserError(f"{option} {path} is there already, and no search has written it; allowed: another file")
    if path.resolve().is_relative_to(store.resolve()):
        raise UserError(f"{option} {path} is in the store {store}; allowed: a file elsewhere")
    output_folder(path.parent, option)


def is_result(path: Path) -> bool:
    """Whether a search wrote this file."""
    try:
        if path.suffix.lower() == ".png":
            with Image.open(path) as image:
                return image.info.get(WRITER[0]) == WRITER[1]
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith("query,rank,image,") if path.suffix.lower() == ".csv" else is_json(file)
    except (OSError, ValueError):
        return False


def is_json(file: TextIO) -> bool:
    content = json.load(file)
    return isinstance(content, dict) and {"store", "queries"} <= content.keys()


def write_results(
    path: Path, store: FeatureStore, about: dict[str, Any], found: dict[str, Sequence[Neighbour]]
) -> None:
    """Writes the neighbours of each query as JSON, or as CSV with a row for each neighbour.

    Args:
        path: a file with one of ``SUFFIXES``.
        store: the store.
        about: how the search was made.
        found: name of a query -> its neighbours.
    """
    rows = [(query, rank, one) for query, some in found.items() for rank, one in enumerate(some, 1)]
    word = WORDS[about["metric"]]
    if path.suffix.lower() == ".csv":
        head = ["query", "rank", "image", word, "row", "column"]
        write_csv(
            path,
            [head, *([query, rank, one.image, one.score, *(one.place or (None, None))] for query, rank, one in rows)],
        )
        return
    queries = [
        {"query": query, "neighbours": [as_dict(rank, one, word) for rank, one in enumerate(some, 1)]}
        for query, some in found.items()
    ]
    write_json(path, {"store": str(store.path), **about, "queries": queries})


def as_dict(rank: int, one: Neighbour, word: str) -> dict[str, Any]:
    place = {} if one.place is None else {"row": one.place[0], "column": one.place[1]}
    return {"rank": rank, "image": one.image, word: one.score, **place}
