"""Faults of disks and network folders during a run: which files a run does without, and what is tried again."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.registry import VISBACKENDS
from mmengine.visualization import LocalVisBackend

from backbones import files
from ziggurat.engine.console import say_note

# Those of network folders; and a folder that was removed is made again.
PASSING = files.PASSING | {errno.EAGAIN, errno.EBUSY, errno.ENOENT}
WAITS = (1.0, 10.0)  # seconds before the second and the third attempt
SAID: set[str] = set()  # notes that stand for all later faults of their kind


def tried_again(job: Callable[..., Any], *args: Any) -> Any:
    """A write that is tried three times where the fault may pass, see ``backbones.files.tried_again``."""
    return files.tried_again(job, *args, waits=WAITS, say=say_note, passing=PASSING)


@contextlib.contextmanager
def dispensable(what: str) -> Iterator[None]:
    """A block that writes a file which a training can do without. A fault of the disk becomes one note.

    Args:
        what: the file in words, e.g. ``"the log"``.
    """
    try:
        yield
    except OSError as error:
        note = f"{what} cannot be written: {error.strerror or error}; the run goes on"
        if note not in SAID:
            SAID.add(note)
            say_note(note)


@VISBACKENDS.register_module(force=True)
class JsonLines(LocalVisBackend):
    """mmengine's LocalVisBackend, except that a training goes on without its files where the disk fails."""

    def add_config(self, *args: Any, **kwargs: Any) -> None:
        with dispensable("the config in the log folder"):
            super().add_config(*args, **kwargs)

    def add_image(self, *args: Any, **kwargs: Any) -> None:
        with dispensable("an image in the log folder"):
            super().add_image(*args, **kwargs)

    def add_scalar(self, *args: Any, **kwargs: Any) -> None:
        with dispensable("the JSON lines"):
            super().add_scalar(*args, **kwargs)

    def add_scalars(self, *args: Any, **kwargs: Any) -> None:
        with dispensable("the JSON lines"):
            super().add_scalars(*args, **kwargs)
