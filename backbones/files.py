"""Writing files whole or not at all, and knowing a file by its content."""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Errors of the machine, not of a program: no space, no permission, a failing disk, too many open files, ...
FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes, of most file systems


def is_path(text: str) -> bool:
    """Whether a text can be a path. A longer name makes even the question whether there is such a file an error."""
    parts = text.encode(errors="surrogatepass").split(b"/")
    return "\x00" not in text and max(map(len, parts)) <= LONGEST_NAME and sum(map(len, parts)) < LONGEST_PATH


@contextlib.contextmanager
def replaced_file(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames that file to ``path`` when the block ends.

    A reader of ``path`` finds the old file or the whole new one. An error inside the block leaves the old file as it
    was. A process that is killed inside the block leaves a file ``.<name>.<random digits>.tmp`` in the same folder.

    Args:
        path: the file to write or replace.
        durable: flush the new file, then the folder, to the disk. After a power cut ``path`` is then the old file or
            the whole new one, too.

    Example::

        with replaced_file("metrics.json") as beside:
            beside.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # Made here, so that a link that someone put at this name is not followed.
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield beside
        if durable:
            flush_to_disk(beside)
        beside.replace(path)
        if durable:
            flush_to_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk. Network folders that cannot are left."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(opened)


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
