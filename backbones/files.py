"""Writing files whole or not at all, reading them though a network folder fails once, and knowing their content."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backbones.errors import Notice

# Errors of the machine, not of a program: no space, no permission, a failing disk, too many open files, ...
FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
# A file stands where a folder is needed, or a folder where a file is, or a name is longer than the file system takes.
FAULTS |= {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
# Those of network folders that may pass by themselves.
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO}
READ_WAITS = (0.1, 1.0)  # seconds
SAFE = "ZIGGURAT_SAFE"  # an environment variable: "1" is --safe
EXPORTED = (".onnx", ".xml", ".pt2", ".torchscript")  # suffixes of backbones.export.FORMATS
LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes, of most file systems


def is_path(text: str) -> bool:
    """Whether a text can be a path. A longer name makes even the question whether there is such a file an error."""
    parts = text.encode(errors="surrogatepass").split(b"/")
    return "\x00" not in text and max(map(len, parts)) <= LONGEST_NAME and sum(map(len, parts)) < LONGEST_PATH


def is_exported(given: Any) -> bool:
    """Whether an argument is the path of an exported file, by its suffix."""
    return isinstance(given, str | Path) and Path(given).suffix.lower() in EXPORTED


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
    except OSError as error:
        if error.filename is None and error.errno is not None:  # of a write
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[bool]:
    """A block that one process at a time is in. The lock file ``.<name>.lock`` stays beside the file.

    The lock of a process that is killed ends with it.

    Args:
        path: the file that the block makes. Its folder exists.
        waiting: is printed on stderr where another process is in the block.

    Yields:
        Whether other processes wait. On a file system without locks they do not.
    """
    with open(path.with_name(f".{path.name}.lock"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        yield True


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


def tried_again(
    job: Callable[..., Any],
    *args: Any,
    waits: tuple[float, ...],
    say: Callable[[str], None],
    passing: set[int] = PASSING,
) -> Any:
    """Calls a function whose repetition does no harm, and once more after each wait where a fault may pass.

    Args:
        job, args: the function and its arguments.
        waits: seconds before the second attempt, the third, ...
        say: takes a note about each failed attempt but the last.
        passing: the numbers of the errors that may pass.

    Raises:
        OSError: the last attempt's, or one that does not pass.
    """
    for wait in waits:
        try:
            return job(*args)
        except OSError as error:
            if error.errno not in passing:
                raise
            say(f"{error.filename or 'a file'}: {error.strerror}; tried again after {wait:g} s")
        time.sleep(wait)
    return job(*args)


def read_again(job: Callable[..., Any], *args: Any) -> Any:
    """:func:`tried_again` for reading. A Notice tells of each failed attempt."""
    return tried_again(job, *args, waits=READ_WAITS, say=lambda note: warnings.warn(Notice(note), stacklevel=2))


class PatientFile(io.FileIO):
    """A file to read. Where a network folder fails, the file is opened or read again.

    Raises:
        OSError: the file cannot be opened or read.
    """

    def __init__(self, path: str | Path):
        read_again(super().__init__, path)

    def readinto(self, buffer: Any) -> int | None:
        return read_again(self.naming, super().readinto, buffer)

    def readall(self) -> bytes:
        return read_again(self.naming, super().readall)

    def naming(self, job: Callable[..., Any], *args: Any) -> Any:
        """The result of a function whose errors get this file's name."""
        try:
            return job(*args)
        except OSError as error:
            error.filename = self.name
            raise


def write_json(path: str | Path, content: Any, durable: bool = False) -> None:
    """Writes dicts, lists, texts and numbers as JSON, whole or not at all. NaN and infinity become null.

    JSON has no word for them. Other programs refuse the words that the json module writes by default. ``durable`` is as
    for :func:`replaced_file`.
    """
    with replaced_file(path, durable) as beside:
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
