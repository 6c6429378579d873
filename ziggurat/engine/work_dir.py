"""The folder of a run: its lock, the files of an earlier run, and its last checkpoint."""

import fcntl
import re
import shutil
from pathlib import Path
from typing import IO, Any

from mmengine.config import Config
from mmengine.hooks import Hook

from backbones.errors import UserError
from backbones.files import replaced_file
from backbones.weights import read_ahead
from ziggurat.engine.config_text import text_of
from ziggurat.engine.console import say_note

HELD: set[IO[str]] = set()  # the lock files that this process holds
LOG_FOLDER = re.compile(r"\d{8}_\d{6}")  # mmengine names a run's log folder after the time of its start
RECORD = "last_checkpoint"  # the file that holds the path of the newest checkpoint
RESUMED = {"meta", "optimizer", "message_hub"}  # entries of a checkpoint without which a run cannot go on
BEST = "best_"  # begins the name of a file of weights alone
FAILED = "non_finite_"  # begins the name of the file of a step whose loss was not finite
LEFTOVER = re.compile(r"\..+\.tmp")  # the file that a killed write leaves, see backbones.files


class WorkDir:
    """One run's folder.

    Args:
        path: the folder. ``lock`` makes it if it is missing.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()
        self.lock_file: IO[str] | None = None

    def lock(self) -> None:
        """Locks the folder for a training, until ``release`` or any end of the process.

        Raises:
            UserError: another training has the lock, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / ".lock", "a")  # noqa: SIM115  stays open as long as the lock is held
        except OSError as error:
            raise UserError(f"--work-dir {self.path}: {error.strerror}") from None
        if (self.path / RECORD).exists() and not (self.path / RECORD).is_file():
            file.close()
            raise UserError(f"{self.path / RECORD} is no file; allowed: a text file with the last checkpoint's path")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(
                f"work dir {self.path} is in use by a running training; choose another --work-dir"
            ) from None
        self.lock_file = file
        HELD.add(file)

    def release(self) -> None:
        """Releases the lock. Without a lock nothing happens."""
        if self.lock_file is not None:
            fcntl.flock(self.lock_file, fcntl.LOCK_UN)  # data loaders' workers have the file open, too
            HELD.discard(self.lock_file)
            self.lock_file.close()
            self.lock_file = None

    def make_again(self, cfg: Config) -> None:
        """Makes a folder again that somebody removed in a training: with its lock and the config, and with a note.

        Raises:
            UserError: another training has the lock, or the folder cannot be written.
        """
        if self.lock_file is None or (self.path / ".lock").is_file():
            return
        say_note(f"{self.path} was removed; it is made again, and checkpoints go on there")
        HELD.discard(self.lock_file)
        self.lock_file.close()
        self.lock()
        self.write_config(cfg)

    def is_used(self) -> bool:
        """Whether the folder holds a checkpoint or the record of one."""
        return (self.path / RECORD).exists() or any(self.path.glob("*.pth"))

    def last_checkpoint(self) -> Path:
        """The newest checkpoint of the run that can be resumed, even if the folder was moved or copied.

        The recorded one comes first, then the others by their age. One that is gone or damaged is passed over, with a
        note. Its content is read, and kept for the next reading. A recorded file of another folder counts only if this
        folder has none of its name.

        Raises:
            UserError: no checkpoint can be resumed.
        """
        record = self.path / RECORD
        name = record.read_text(errors="replace").strip() if record.is_file() else ""
        here = self.path / Path(name).name
        recorded = [Path(name) if not here.is_file() and Path(name).is_file() else here] if name else []
        others = [path for path in self.path.glob("*.pth") if not path.name.startswith((FAILED, BEST))]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        faults: list[str] = []
        for path in dict.fromkeys([*recorded, *others]):
            if fault := why_not_resumed(path):
                faults.append(fault)
                continue
            if faults:
                say_note(f"{'; '.join(faults)}; the run goes on from {path.name}")
            return path
        if not faults:
            raise UserError(f"nothing to resume in {self.path}: it holds no checkpoint; start without --resume")
        raise UserError(f"nothing to resume in {self.path}: {'; '.join(faults)}")

    def earlier_run(self) -> list[Path]:
        """The files that a training left in the folder: checkpoints, their record, logs. Other files are not listed."""
        logs = [path for path in self.path.iterdir() if path.is_dir() and LOG_FOLDER.fullmatch(path.name)]
        return [*self.path.glob("*.pth"), *self.path.glob(RECORD), *logs]

    def sweep(self) -> None:
        """Removes half-written files of killed runs. Only the holder of the lock may do so."""
        for path in self.path.iterdir():
            if path.is_file() and LEFTOVER.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def write_config(self, cfg: Config) -> None:
        """Writes the run's config beside its checkpoints, as a Python file of the same name."""
        with replaced_file(self.path / f"{Path(cfg.filename).stem if cfg.filename else 'run'}.py") as beside:
            beside.write_text(text_of(cfg), encoding="utf-8")


def leave_locks() -> None:
    """Closes the lock files that a forked process got from its parent. The parent keeps its locks."""
    while HELD:
        HELD.pop().close()


def why_not_resumed(path: Path) -> str:
    """Why a checkpoint cannot be resumed; "" if it can."""
    if not path.is_file():
        return f"the last checkpoint {path.name} is gone"
    try:
        content = read_ahead(path)
    except UserError as error:
        return str(error)
    return "" if set(content) >= RESUMED else f"{path.name} holds weights only"


def record_last(record: Path, checkpoint: str) -> None:
    """Writes the path of the newest checkpoint, whole or not at all."""
    with replaced_file(record, durable=True) as beside:
        beside.write_text(checkpoint)


def remove(path: Path) -> None:
    """Removes a file or a whole folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class ReplaceRunHook(Hook):
    """Removes the earlier run in a work dir, once the new run has saved a checkpoint.

    Args:
        folder: the work dir of both runs.
        earlier: the files and folders of the earlier run.
    """

    def __init__(self, folder: WorkDir, earlier: list[Path]):
        self.folder = folder
        self.earlier = earlier

    def after_save_checkpoint(self, runner: Any, path: Path) -> None:
        kept = (path, Path(runner.log_dir))  # the old and the new run may have a name in common
        for old in self.earlier:
            if old not in kept:
                remove(old)
        if self.earlier:
            self.folder.write_config(runner.cfg)
        self.earlier = []
