"""Writing files whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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
