"""What the main thread of a training is doing, from its stack."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

WAITS_FOR_OTHERS = "waiting for the other processes"
LIBRARIES = ("mmengine", "mmdet", "mmseg", "mmcv")
OURS = ("ziggurat", "classification", "detection", "segmentation", "backbones")
# The end of a file's path and the names of functions in it, None for all -> what that is.
ACTIVITIES: tuple[tuple[str, tuple[str, ...] | None, str], ...] = (
    ("torch/distributed/distributed_c10d.py", None, WAITS_FOR_OTHERS),
    ("torch/utils/data/dataloader.py", ("_try_get_data", "_get_data"), "waiting for a worker of the data loader"),
    ("torch/utils/data/dataloader.py", ("_shutdown_workers",), "ending the workers of the data loader"),
    ("torch/utils/data/dataloader.py", None, "loading data"),
    ("torch/autograd/graph.py", None, "in the backward pass"),
    ("ziggurat/engine/saving.py", None, "saving a checkpoint"),
    ("ziggurat/engine/runner.py", ("save_checkpoint", "checkpoint_content"), "saving a checkpoint"),
    ("mmengine/evaluator/metric.py", ("evaluate",), "computing metrics"),
    ("torch/optim/optimizer.py", None, "in the optimiser's step"),
    ("torch/_dynamo/convert_frame.py", None, "compiling"),
    ("mmengine/runner/base_loop.py", None, "between two steps"),
)


class Whereabouts(NamedTuple):
    """``what`` a thread does, and the ``place`` of the innermost call of this project or the mm packages."""

    what: str
    place: str

    def __str__(self) -> str:
        return f"{self.what} ({self.place})" if self.place else self.what


def of_main_thread() -> Whereabouts:
    """Where the main thread of this process is now."""
    return whereabouts(sys._current_frames().get(threading.main_thread().ident or 0))


def whereabouts(frame: FrameType | None) -> Whereabouts:
    """What a stack is about. The innermost call that says anything counts."""
    what = place = ""
    for path, line, name in calls(frame):
        if not place and (shown := shown_path(path)):
            place = f"{shown}:{line} in {name}"
        if not what:
            what = activity(path, name)
        if place and what:
            break
    return Whereabouts(what or "computing", place)


def activity(path: str, name: str) -> str:
    """What a function of a file is for, if :data:`ACTIVITIES` says so; else ""."""
    return next((what for end, names, what in ACTIVITIES if path.endswith(end) and name in (names or (name,))), "")


def calls(frame: FrameType | None) -> Iterator[tuple[str, int, str]]:
    """File, line and function of each call, the innermost first."""
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back


def shown_path(path: str) -> str:
    """A file's path from its package on, if that is one of this project or of the mm packages; else ""."""
    parts = Path(path).parts
    for i, part in enumerate(parts):
        if part in LIBRARIES and "site-packages" in parts[:i]:
            return "/".join(parts[i:])
        if part in OURS and Path(*parts[:i]) == ROOT:
            return "/".join(parts[i:])
    return ""


ROOT = Path(__file__).parent.parent.parent  # of the packages
