"""Writing tables of a report as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.files import replaced_file


def write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Writes rows whole or not at all. None is an empty cell."""
    with replaced_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_dicts(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes one dict or more with the same keys, which head the columns."""
    write_csv(path, [list(rows[0]), *(list(row.values()) for row in rows)])
