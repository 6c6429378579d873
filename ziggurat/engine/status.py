"""What the training in a work dir does, from its files alone."""

import fcntl
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

from backbones.errors import UserError
from ziggurat.engine.heartbeat import read_heartbeats
from ziggurat.engine.summary import SCALARS, TIMES
from ziggurat.engine.watchdog import lines_behind
from ziggurat.engine.work_dir import BEST, FAILED, RECORD, WorkDir

PROCESSES = Path("/proc")
RUNNING = ("starting", "training", "validation")
FRESH = 60.0  # seconds: a heartbeat of another machine that is younger is of a training that runs
LIMIT = 600.0  # seconds without progress after which a training without a watchdog counts as stalled


def status_of(work_dir: str | Path, verify: bool = False) -> dict[str, Any]:
    """The facts about a run. What the files do not tell is absent.

    Args:
        work_dir: the run's folder. Nothing in it is changed.
        verify: whether to read the last checkpoint, and compare its checksums with its content.

    Returns:
        ``work_dir``; ``running``; ``stage``, see :func:`stage_of`; ``iter``, ``max_iters``, ``epoch``, ``max_epochs``;
        ``seconds`` of an iteration, ``loader`` as its share of waiting for data, ``eta`` in seconds; ``loss``, ``lr``;
        ``validation`` and ``best``, metric -> value; ``memory`` and ``host_memory`` in MiB; ``checkpoint``, see
        :func:`checkpoint_of`; ``age``, the seconds since the last sign of life; ``where``, what the first process does;
        ``behind``, a list of clauses, one for each process that is behind the others.

    Raises:
        UserError: the folder is absent, or holds no run.
    """
    folder = Path(work_dir)
    if not folder.is_dir():
        raise UserError(f"{'not a' if folder.exists() else 'no such'} folder: {folder}")
    hearts, logs = read_heartbeats(folder), read_scalars(folder)
    checkpoint = checkpoint_of(folder, verify)
    if not hearts and not logs and not checkpoint and not (folder / ".lock").exists():
        raise UserError(f"{folder} holds no run; allowed: the work dir of a training")
    first, held, now = hearts.get(0, {}), is_locked(folder), time.time()
    trained = next((row for row in reversed(logs) if "loss" in row), {})
    tested = next((row for row in reversed(logs) if "loss" not in row), {})
    stage = stage_of(first, held, now)
    step = first.get("step") or trained.get("time")
    facts = {
        "work_dir": str(folder),
        "running": stage.partition(",")[0] in (*RUNNING, "stalled", "saving"),
        "stage": stage,
        **{name: first.get(name, trained.get(name)) for name in ("iter", "max_iters", "epoch", "max_epochs")},
        "seconds": step,
        "loader": (first.get("loader") or trained.get("data_time") or 0) / step if step else None,
        "loss": first.get("loss", trained.get("loss")),
        "lr": trained.get("lr"),
        "validation": first.get("metrics") or {name: value for name, value in tested.items() if name not in TIMES},
        "best": best_of(first, folder),
        "memory": trained.get("memory"),
        "host_memory": trained.get("host_memory"),
        "checkpoint": checkpoint,
        "age": now - first["time"] if "time" in first else None,
        "where": first.get("where"),
        "behind": lines_behind(hearts),
    }
    if facts["running"] and step and {"iter", "max_iters"} <= first.keys():
        facts["eta"] = step * max(0, first["max_iters"] - first["iter"])
    return {name: value for name, value in facts.items() if value not in (None, {}, [], "")}


def stage_of(first: dict[str, Any], held: bool, now: float) -> str:
    """``starting``, ``training``, ``validation``, ``saving``, ``stalled, ...``, ``ended``, ``stopped by SIGTERM``, ...

    A training that ended without a word was killed. ``not running`` stands for a run of which only files are there.

    Args:
        first: the heartbeat of the first process; {} if there is none.
        held: whether a training holds the lock of the folder.
        now: the time, in seconds since 1970.
    """
    stage, at_work = first.get("stage", ""), first.get("stage") in RUNNING
    elsewhere = first.get("host") not in (None, socket.gethostname())
    if not held and not (at_work and elsewhere and now - first.get("time", 0) < FRESH):
        return ("killed" if at_work else stage) or "not running"
    if not at_work or (not elsewhere and is_gone(first.get("pid"))):
        return "starting"  # the heartbeat is that of the run before
    idle = now - first.get("progress", now)
    if idle > (first.get("limit") or LIMIT):
        return f"stalled, in {stage} for {idle:.0f} s"
    return "saving" if "saving" in (first.get("where") or "") else stage + ", saving" * bool(first.get("saving"))


def is_gone(process: int | None) -> bool:
    """Whether this machine has no such process. Without Linux's files nobody can tell."""
    return PROCESSES.is_dir() and not (PROCESSES / str(process)).exists()


def is_locked(folder: Path) -> bool:
    """Whether a training holds the folder. A lock shared with other readers is taken for a moment."""
    try:
        with open(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_scalars(folder: Path) -> list[dict[str, Any]]:
    """The rows of the newest log that has any, in their order."""
    for path in sorted(folder.glob(SCALARS), reverse=True):
        rows = []
        for line in path.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            rows += [row] if isinstance(row, dict) else []
        if rows:
            return rows
    return []


def checkpoint_of(folder: Path, verify: bool) -> dict[str, Any]:
    """``name`` and ``age`` in seconds of the last checkpoint; {} if there is none.

    With ``verify`` it is the newest good one, and ``good`` is True; ``fault`` tells that none can be resumed.
    """
    if verify and (folder / RECORD).exists():
        try:
            path = WorkDir(folder).last_checkpoint()
        except UserError as error:
            return {"fault": str(error)}
        return {"name": path.name, "age": time.time() - path.stat().st_mtime, "good": True}
    names = []
    if (folder / RECORD).is_file():
        names = [Path((folder / RECORD).read_text(errors="replace").strip()).name]
    others = [path for path in folder.glob("*.pth") if not path.name.startswith((BEST, FAILED))]
    names += [path.name for path in sorted(others, key=lambda path: -path.stat().st_mtime)]
    for path in (folder / name for name in names if name):
        if path.is_file():
            return {"name": path.name, "age": time.time() - path.stat().st_mtime}
    return {}


def best_of(first: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The file of each best checkpoint, and its score if the run told it."""
    scores, found = first.get("best") or {}, {}
    for path in sorted(folder.glob(f"{BEST}*.pth")):
        if parts := re.fullmatch(r"best_(.+)_(epoch|iter)_(\d+)", path.stem):
            score = scores.get("best_score", scores.get(f"best_score_{parts[1]}"))
            found[parts[1]] = {"file": path.name, **({} if score is None else {"score": score})}
    return found
