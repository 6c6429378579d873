"""A temporary folder inside a folder of results. What killed processes left of theirs is removed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A block with a new folder, which is removed at its end.

    The process holds a lock of its folder, which ends with the process. So folders of the same prefix that nobody locks
    were left by killed processes, and are removed first. On a file system without locks they stay.

    Args:
        parent: where the folder is made. It exists.
        prefix: of the folder's name.
    """
    with contextlib.ExitStack() as stack:
        with locked(parent, waits=True):  # so that no other process sees the new folder before it is locked
            for left in parent.glob(f"{prefix}*"):
                if left.is_dir() and not left.is_symlink():
                    with locked(left) as is_free:
                        shutil.rmtree(left, ignore_errors=True) if is_free else None
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent, prefix=prefix)))
            stack.enter_context(locked(folder))
        yield folder


@contextlib.contextmanager
def locked(folder: Path, waits: bool = False) -> Iterator[bool]:
    """A block that holds the lock of a folder. Yields whether it does: not where another process has it, or none can.

    Args:
        folder: the folder itself is locked, and no file made.
        waits: for the process that holds the lock.
    """
    with contextlib.ExitStack() as stack:
        try:
            opened = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, opened)
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError:  # BlockingIOError is one
            yield False
            return
        yield True
