"""The hook that saves a run's checkpoints, records the last one, and removes older ones."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from backbones.errors import UserError, arguments_of, shown, unknown
from ziggurat.engine.disk_faults import tried_again
from ziggurat.engine.saving import finish_saving, later, saving_failed
from ziggurat.engine.validation_due import VALIDATION_DUE, note_validation
from ziggurat.engine.work_dir import RECORD, record_last, remove

BETWEEN = "checkpoint_between"  # the record of a checkpoint in addition to the regular ones
OUTDATED = "checkpoints_outdated"  # the names of the files that were to be removed after a checkpoint
REMOVABLE = re.compile(r"(best_.+_)?(iter|epoch)_\d+\.pth")  # names that this hook gives


class LateRemoval:
    """A file backend of mmengine whose ``remove`` remembers a file, until ``take`` gives it to be removed.

    Args:
        backend: mmengine's backend.
        folder: the only folder in which files are removed. The records of a checkpoint from elsewhere may name others.
    """

    def __init__(self, backend: Any, folder: str | Path):
        self.backend, self.folder = backend, Path(folder).absolute()
        self.outdated: set[Path] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str | Path) -> None:
        path = Path(path).absolute()
        if path.parent == self.folder and path.suffix == ".pth":
            self.outdated.add(path)

    rmtree = remove

    def take(self, kept: Iterable[str | None]) -> set[Path]:
        """Forgets the remembered files, and gives those of them that are not to be kept."""
        outdated, self.outdated = self.outdated, set()
        return outdated - {Path(path).absolute() for path in kept if path}


@HOOKS.register_module(force=True)
class SafeCheckpointHook(CheckpointHook):
    """mmengine's hook, except that a new checkpoint is on the disk before its record, and its record before removals.

    mmengine removes outdated files before it saves, through ``self.file_backend``. Here that backend remembers them.
    Files are written and removed in order, by ``ziggurat.engine.saving.later``.

    Args:
        *args, **kwargs: as for mmengine's hook.
        minutes: saves also when this time has passed since the last checkpoint. None: only by ``interval``.

    Raises:
        UserError: an argument is unknown, or ``minutes`` is not a number above 0.
    """

    def __init__(self, *args: Any, minutes: float | None = None, **kwargs: Any):
        if minutes is not None and not (isinstance(minutes, int | float) and minutes > 0):
            raise UserError(f"minutes of CheckpointHook is {shown(minutes)}; allowed: numbers above 0, or None")
        super().__init__(*args, **kwargs)
        self.minutes, self.saved_at = minutes, time.monotonic()
        self.file_backend: LateRemoval | None = None  # while a training runs
        for name in self.args:
            raise unknown("argument of CheckpointHook", name, [*arguments_of(CheckpointHook), "minutes"])

    def is_time(self) -> bool:
        """Whether ``minutes`` have passed since the last checkpoint."""
        return self.minutes is not None and time.monotonic() - self.saved_at >= 60 * self.minutes

    def is_due(self, runner: Any) -> bool:
        """Whether this training iteration ends with a checkpoint."""
        last = self.save_last and self.is_last_train_iter(runner)
        return not self.by_epoch and (last or self.every_n_train_iters(runner, self.interval, self.save_begin))

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        self.saved_at = time.monotonic()
        self.file_backend = LateRemoval(self.file_backend, self.out_dir)
        if last := runner.message_hub.runtime_info.get("last_ckpt"):
            self.take_over(runner, Path(self.out_dir) / Path(last).name)

    def take_over(self, runner: Any, last: Path) -> None:
        """Does what the run before, which saved ``last``, may not have done: recording it, and removing older files."""
        self.last_ckpt = str(last)  # mmengine saves it again when a validation finds it the best
        if not (is_main_process() and last.is_file()):  # a checkpoint from elsewhere says nothing about this folder
            return
        later(runner, tried_again, record_last, Path(runner.work_dir) / RECORD, self.last_ckpt)
        for name in runner.message_hub.runtime_info.get(OUTDATED, []):
            if REMOVABLE.fullmatch(name):
                self.file_backend.remove(last.with_name(name))
        self.remove_outdated(runner)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Saves if that is due. Raises UserError if an earlier file could not be written."""
        if saving_failed(runner):
            finish_saving(runner)
        note_validation(runner, IterBasedTrainLoop)
        super().after_train_iter(runner, *args, **kwargs)
        self.remove_outdated(runner)

    def after_train_epoch(self, runner: Any) -> None:
        note_validation(runner, EpochBasedTrainLoop)
        super().after_train_epoch(runner)
        self.remove_outdated(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Saves the best checkpoint so far, if ``save_best`` is set. A validation before the first step does not count.

        A checkpoint that was saved before the validation is saved again, with its outcome.

        Raises:
            UserError: a name in ``save_best`` is not a metric of this validation.
        """
        if self.file_backend is None or runner.iter == 0:
            return
        for name in self.key_indicators if self.save_best and metrics else ():
            if name != "auto" and name not in metrics:
                raise unknown("metric of save_best", name, metrics)
        awaited = runner.message_hub.runtime_info.get(VALIDATION_DUE)
        runner.message_hub.update_info(VALIDATION_DUE, False)
        self.saved_again = False
        super().after_val_epoch(runner, metrics)
        step = runner.epoch if self.by_epoch else runner.iter
        is_last = self.last_ckpt == str(Path(self.out_dir) / self.filename_tmpl.format(step))
        if awaited and is_last and not self.saved_again:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))
        self.remove_outdated(runner)

    def after_train(self, runner: Any) -> None:
        finish_saving(runner)  # mmengine reads the files that it publishes
        super().after_train(runner)

    def save_between(self, runner: Any, finished: int) -> None:
        """Saves a checkpoint in addition to the regular ones. The next regular one replaces it.

        Args:
            finished: the number of finished iterations, of which the file has its name.
        """
        path = Path(self.out_dir) / f"iter_{finished}.pth"
        if str(path) != self.last_ckpt:
            self.forget_between(runner)
            runner.message_hub.update_info(BETWEEN, str(path))
        self.write(runner, path.name, dict(epoch=runner.epoch, iter=finished), by_epoch=False)
        self.remove_outdated(runner)

    def forget_between(self, runner: Any) -> None:
        """Lets the checkpoint in addition to the regular ones, if there is one, be removed after the next save."""
        between = runner.message_hub.runtime_info.get(BETWEEN)
        if between and is_main_process():
            self.file_backend.remove(between)
        runner.message_hub.update_info(BETWEEN, "")

    def write(self, runner: Any, name: str, meta: dict[str, Any], by_epoch: bool) -> None:
        """Saves a whole checkpoint, and then records it as the last one."""
        if folder := getattr(runner, "folder", None):
            folder.make_again(runner.cfg)
        self.last_ckpt, self.saved_at = str(Path(self.out_dir) / name), time.monotonic()
        self.saved_again = True
        if is_main_process():
            runner.message_hub.update_info(OUTDATED, sorted(path.name for path in self.file_backend.outdated))
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
        )
        if is_main_process():
            later(runner, tried_again, record_last, Path(runner.work_dir) / RECORD, self.last_ckpt)

    def remove_outdated(self, runner: Any) -> None:
        if not self.file_backend.outdated:
            return
        kept = (
            self.last_ckpt,
            getattr(self, "best_ckpt_path", None),
            *getattr(self, "best_ckpt_path_dict", {}).values(),
        )
        for path in self.file_backend.take(kept):
            later(runner, remove, path)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        """mmengine's method, except that the record ``last_checkpoint`` is replaced after the file is written."""
        name = self.filename_tmpl.format(step)
        if self.max_keep_ckpts > 0 and [step] != list(self.keep_ckpt_ids)[-1:]:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                if is_main_process():
                    self.file_backend.remove(Path(self.out_dir) / oldest)
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        self.forget_between(runner)
        self.write(runner, name, meta, self.by_epoch)
