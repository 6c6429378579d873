"""Hidden files in a folder of predictions: what runs began to write, and the lock of the run that writes now."""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import IO

from backbones.errors import UserError
from ziggurat.engine.console import say_note
from ziggurat.engine.predicted.formats import FILES, FORMATS

NAMES, BEGUN, LOCK = ".names", ".formats", ".lock"
UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)  # as backbones.files.replaced_file names them
SUMMARIES = {file for file in FILES if "{}" not in file}


def read_begun(path: Path) -> dict[str, None]:
    """The formats that earlier runs began to write; none where this is unknown."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return {word: None for word in json.loads(path.read_text(encoding="utf-8")) if word in FORMATS}
    return {}


def read_names(path: Path) -> dict[str, str]:
    """The names of files that earlier runs began with. A line that was cut off belongs to a run that wrote no file."""
    found = {}
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError):
                name, stem = json.loads(line)
                if isinstance(name, str) and Path(stem).name == stem:
                    found[name] = stem
    return found


def remove_unfinished(out: Path, stems: Collection[str]) -> None:
    """Removes what killed runs left of files in the making, which may be large videos.

    Args:
        out: the folder, whose lock is held.
        stems: the names of the runs' files, without suffix. Other files stay.
    """
    known = set(stems)
    for path in [*out.glob(".*.tmp"), *out.glob("*/.*.tmp"), *out.glob("*/*/.frame_*.tmp")]:
        made = UNFINISHED.fullmatch(path.name)
        stem = path.parent.name if path.parent.parent.parent == out else Path(made[1]).stem if made else None
        if made and (stem in known or made[1] in SUMMARIES):
            path.unlink(missing_ok=True)


def locked(out: Path) -> IO[str]:
    """The folder's lock, which is held until it is closed or the process ends.

    Raises:
        UserError: another process holds the lock.
    """
    while True:
        file = open(out / LOCK, "a")  # noqa: SIM115  stays open as long as the lock is held
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(f"--out {out} is in use by another tools/predict.py; allowed: another --out") from None
        except OSError:  # a file system without locks
            say_note(f"--out {out} is on a disk without locks; let no other tools/predict.py write there meanwhile")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(out / LOCK)):
                return file
        file.close()  # a run that wrote nothing has removed the file meanwhile
