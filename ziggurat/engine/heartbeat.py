"""The small file that each process of a training keeps in the work dir. The file says how far the process is."""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from backbones.files import write_json

FOLDER = ".heartbeats"  # in a work dir; the file of a process has its rank as name
PAUSE = 5.0  # seconds between two writings, unless the stage changes


class Heartbeat:
    """The file of one process. Threads may share the object.

    Args:
        work_dir: the run's folder.
        rank: this process's.
        pause: seconds that lie between two writings at least.

    Attributes:
        facts: what the file holds, beside the ``time`` of the writing, in seconds since 1970.
    """

    def __init__(self, work_dir: str | Path, rank: int, pause: float = PAUSE):
        self.path, self.pause = Path(work_dir) / FOLDER / f"{rank}.json", pause
        self.facts: dict[str, Any] = dict(rank=rank, host=socket.gethostname(), pid=os.getpid(), started=time.time())
        self.written = 0.0  # of time.monotonic()
        self.guard = threading.Lock()

    def beat(self, at_once: bool = False, **facts: Any) -> None:
        """Takes facts, and writes the file if the last writing is long ago, or ``at_once``.

        What cannot be written is left: a training does not end for that.
        """
        with self.guard:
            self.facts.update(facts)
            if not at_once and time.monotonic() - self.written < self.pause:
                return
            self.written = time.monotonic()
            if self.path.parent.parent.is_dir():  # else somebody removed the work dir
                with contextlib.suppress(OSError):
                    write_json(self.path, {**self.facts, "time": time.time()})


def read_heartbeats(work_dir: str | Path) -> dict[int, dict[str, Any]]:
    """The facts of all processes of the last training in a work dir, by their ranks. Unreadable files are left out."""
    found = {}
    for path in (Path(work_dir) / FOLDER).glob("[0-9]*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            facts = json.loads(path.read_text())
            found[int(facts["rank"])] = facts
    return dict(sorted(found.items()))


def forget_heartbeats(work_dir: str | Path, processes: int) -> None:
    """Removes the files of processes that a training with fewer ``processes`` does not have."""
    for rank in read_heartbeats(work_dir):
        if rank >= processes:
            with contextlib.suppress(OSError):
                (Path(work_dir) / FOLDER / f"{rank}.json").unlink()
