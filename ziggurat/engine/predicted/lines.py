"""The lines of ``predictions.jsonl``: a prediction each, as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from backbones.files import with_null
from ziggurat.engine.console import say_note


def as_line(row: dict[str, Any]) -> bytes:
    return json.dumps(with_null(row), allow_nan=False).encode() + b"\n"


def whole_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line and the place of its first byte. What follows the last whole line is cut off.

    Args:
        path: the file; none has no lines.

    Raises:
        UserError: the path is no file, or a line is no record of a prediction.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise UserError(f"{path} is no file; allowed: another --out")
    place = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                say_note(f"{path}: the last line was cut off; its image is predicted again")
                with open(path, "r+b") as same:
                    same.truncate(place)
                return
            yield place, parsed(line, f"{path}:{number}")
            place += len(line)


def parsed(line: bytes, place: str) -> dict[str, Any]:
    """The prediction of a line. ``place`` names the line in the UserError about one that is no prediction."""
    try:
        row = json.loads(line)
        named = isinstance(row["image"], str) and Path(row["file"]).name == row["file"] and "modified" in row
        if named and isinstance(row.get("frame", 0), int):
            return row
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{place} is no record of a prediction; allowed: another --out") from None
