"""The named points of a save, at which a process of the kill harness ends itself with SIGKILL.

Nothing in the product knows of them. The functions of Python and PyTorch through which the product writes, renames and
removes files are replaced in that process.
"""

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MOMENTS = (
    "before the file is made",
    "half written",
    "written, not flushed",
    "before the rename",
    "renamed, folder not flushed",
)
POINTS = (
    *(f"{kind}: {moment}" for kind in ("checkpoint", "best", "record") for moment in MOMENTS),
    "before a removal",
    "after a removal",
)


def kind_of(path: Any) -> str:
    """What a file of a run is, by its name or that of the file beside it that will be renamed; "" for any other."""
    name = Path(os.fspath(path)).name
    if name.startswith(".") and name.endswith(".tmp"):
        name = name[1:].rsplit(".", 2)[0]
    if name == "last_checkpoint":
        return "record"
    return ("best" if name.startswith("best_") else "checkpoint") if name.endswith(".pth") else ""


class SavePoints:
    """Watches the saves of this process.

    Args:
        report: is called with ``recorded`` or ``best``, and the name of a checkpoint, once that is renamed into place.
        point: one of :data:`POINTS`, or None.
        nth: the process ends when it is at the point for the nth time.
    """

    def __init__(self, report: Callable[..., None], point: str | None = None, nth: int = 1):
        self.report, self.point, self.left = report, point, nth
        self.renamed = ""  # the kind of the file that was renamed last

    def reached(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Replaces the functions, for as long as the process lives."""
        for owner, name, ours in (
            (os, "open", self.open),
            (os, "fsync", self.fsync),
            (torch, "save", self.save),
            (Path, "write_text", self.write_text),
            (Path, "replace", self.replace),
            (Path, "unlink", self.unlink),
        ):
            real = getattr(owner, name)

            def instead(*args: Any, ours: Any = ours, real: Any = real, **kwargs: Any) -> Any:
                return ours(real, *args, **kwargs)

            setattr(owner, name, functools.wraps(real)(instead))

    def open(self, real: Any, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT and (kind := kind_of(path)):
            self.reached(f"{kind}: before the file is made")
        return real(path, flags, *args, **kwargs)

    def save(self, real: Any, content: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        real(content, file, *args, **kwargs)
        name = getattr(file, "name", file)
        if isinstance(name, str | Path) and kind_of(name):
            if name is not file:
                file.flush()
            self.halve(Path(name))

    def write_text(self, real: Any, path: Path, *args: Any, **kwargs: Any) -> int:
        written = real(path, *args, **kwargs)
        if kind_of(path) == "record":
            self.halve(path)
        return written

    def halve(self, path: Path) -> None:
        """Cuts the file off in the middle, where the process ends itself next."""
        if self.point == f"{kind_of(path)}: half written" and self.left == 1:
            os.truncate(path, path.stat().st_size // 2)
        self.reached(f"{kind_of(path)}: half written")

    def fsync(self, real: Any, opened: int) -> None:
        name = os.readlink(f"/proc/self/fd/{opened}")
        if os.path.isdir(name):
            self.reached(f"{self.renamed}: renamed, folder not flushed")
        else:
            self.reached(f"{kind_of(name)}: written, not flushed")
        real(opened)

    def replace(self, real: Any, path: Path, target: Any) -> Path:
        kind = kind_of(target)
        self.reached(f"{kind}: before the rename")
        content = path.read_text() if kind == "record" else str(target)
        done = real(path, target)
        self.renamed = kind
        if kind in ("record", "best"):
            self.report(**{"recorded" if kind == "record" else "best": Path(content).name})
        return done

    def unlink(self, real: Any, path: Path, *args: Any, **kwargs: Any) -> None:
        if path.suffix != ".pth":
            return real(path, *args, **kwargs)
        self.reached("before a removal")
        real(path, *args, **kwargs)
        self.reached("after a removal")
        return None
