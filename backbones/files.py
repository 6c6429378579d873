"""Writing files whole or not at all, and knowing a file by its content."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames that file to ``path`` when the block ends.

    A reader of ``path`` finds the old file or the whole new one. An error inside the block leaves the old file as it
    was. A process that is killed inside the block leaves a file ``.<name>.<process id>.tmp`` in the same folder.

    Example::

        with replaced_file("metrics.json") as beside:
            beside.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Writes dicts, lists, texts and numbers as JSON, whole or not at all. NaN and infinity become null.

    JSON has no word for them. Other programs refuse the words that the json module writes by default.
    """
    with replaced_file(path) as beside:
        beside.write_text(json.dumps(with_null(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def with_null(content: Any) -> Any:
    """A copy with None in place of NaN and infinity."""
    if isinstance(content, dict):
        return {key: with_null(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [with_null(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file in hexadecimal digits, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
