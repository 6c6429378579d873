"""The lock of a store: processes of one run share it, and other runs stay out."""

import fcntl
from pathlib import Path
from typing import IO, NamedTuple

from backbones.errors import UserError

FILE = ".lock"
HELD: set[IO[str]] = set()  # the lock files that this process holds


class InUse(UserError):
    """Another run writes to the store."""


class Lock(NamedTuple):
    """A lock that is held until ``file`` is closed, or the process ends.

    Attributes:
        store: the folder.
        run: a text that the processes of one run have in common.
        is_alone: whether no other process holds the lock. On a disk without locks this is unknown, and False.
        is_new: whether no process of this run held the lock before.
    """

    file: IO[str]
    store: Path
    run: str
    is_alone: bool
    is_new: bool

    def share(self) -> None:
        """Lets other processes of the run in. InUse if a process of another run was faster."""
        fcntl.flock(self.file, fcntl.LOCK_SH)  # frees the lock for a moment
        if written(self.file) != self.run:
            raise in_use(self.store)

    def release(self) -> None:
        HELD.discard(self.file)
        self.file.close()


def locked(store: Path, run: str) -> Lock:
    """The lock of a store. A process that is alone keeps others out until it calls ``share``.

    Args:
        store: the folder, which exists.
        run: a text that the processes of one run have in common.

    Raises:
        InUse: a process of another run holds the lock.
    """
    file = open(store / FILE, "a+", encoding="utf-8")  # noqa: SIM115  stays open as long as the lock is held
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_alone = True
    except BlockingIOError:
        fcntl.flock(file, fcntl.LOCK_SH)  # waits for a process that is alone and prepares the folder
        is_alone = False
    except OSError:  # a file system without locks
        return Lock(file, store, run, False, True)
    is_new = written(file) != run
    if is_new and not is_alone:
        file.close()
        raise in_use(store)
    if is_new:
        file.truncate(0)
        file.write(run)
        file.flush()
    HELD.add(file)
    return Lock(file, store, run, is_alone, is_new)


def written(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def in_use(store: Path) -> InUse:
    return InUse(f"{store} is in use by another run; allowed: another --out, or the same after that run's end")


def leave_locks() -> None:
    """Closes the lock files that a forked process got from its parent. The parent keeps its locks."""
    while HELD:
        HELD.pop().close()
