"""The runner of all three tasks: mmengine's, made safe to start, to stop and to resume."""

import contextlib
import fcntl
import itertools
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import (
    BaseTTAModel,
    MMDistributedDataParallel,
    convert_sync_batchnorm,
    is_model_wrapper,
    revert_sync_batchnorm,
)
from mmengine.runner import Runner
from torch import Tensor, nn

from backbones import PyramidBackbone
from backbones.errors import UserError
from backbones.weights import (
    match_structure,
    match_structures,
    read_ahead,
    read_checkpoint,
    read_own_meta,
    save_safely,
    tensors_of,
)
from backbones.weights.load import unchanged_on_error
from engine.config import REPOSITORY, task_module
from engine.dist import env_rank, init_processes
from engine.mistakes import config_mistakes
from engine.optim import use_autocast
from engine.prepare import shorten

LOCKS: dict[Path, Any] = {}  # work dirs this process trains in: the files whose lock says so
RUNS = itertools.count()


def build_runner(
    cfg: Config,
    work_dir: str | Path | None = None,
    resume: bool | str | Path | None = None,
    overwrite: bool = False,
    launcher: str = "none",
    amp: bool = False,
    device: str | None = None,
    checkpoint: str | Path | None = None,
) -> "SafeRunner":
    """Checks what a run needs, then builds its runner: for training, or for testing where ``checkpoint`` is given.

    Args:
        cfg: from ``load_config``; it is not changed.
        work_dir: default ``cfg.work_dir``, else ``work_dirs/<config name>``.
        resume: True goes on from the last checkpoint of ``work_dir``, a path from that checkpoint.
        overwrite: removes the run that ``work_dir`` holds, once the new one has saved a checkpoint.
        launcher: ``"none"``, ``"pytorch"`` or ``"slurm"``; the process group is started here, gloo without a GPU.
        amp: train in bfloat16.
        device: ``"cpu"``, ``"cuda"``, or None for the GPU where there is one.
        checkpoint: test with these weights; they must fit exactly.

    Raises:
        UserError: no GPU where one was asked for, a work dir in use or already used, nothing to resume, data or a
            checkpoint that does not fit. Whatever ``work_dir`` held is then still there.
    """
    cfg = cfg.copy()
    device = pick_device(device)
    stem = Path(cfg.filename).stem if cfg.filename else "run"
    work_dir = Path(work_dir or cfg.get("work_dir") or Path("work_dirs") / stem).absolute()
    cfg.work_dir, cfg.launcher = str(work_dir), launcher
    training = checkpoint is None
    if training:
        main_process = env_rank(launcher) == 0
        if main_process:
            lock(work_dir)
        choose_start(cfg, work_dir, resume, overwrite, main_process)
        prepare_training(cfg, amp, device)
        # A training does not need the test data to be there, but its config still says how to test.
        testing = {f"test_{part}": cfg.pop(f"test_{part}", None) for part in ("dataloader", "evaluator", "cfg")}
    else:
        prepare_testing(cfg, checkpoint)
    task = task_module(cfg)
    if hasattr(task, "check_data"):
        task.check_data(cfg, ("train", "val") if training else ("test",))

    init_processes(launcher, device)
    name_uniquely(cfg, stem)
    add_hooks(cfg)
    if device == "cpu":
        drop_pinning(cfg)
    previous = earlier_run(work_dir) if training and overwrite else []
    with config_mistakes(cfg):
        with library_warnings_to(None):
            runner = SafeRunner.from_cfg_on(cfg, device, strict=not training)
        if training:
            runner.build_training()
    if training and runner.rank == 0:
        runner.cfg.update(testing)
        runner.previous = previous
        if not previous:
            Runner.dump_config(runner)
    return runner


class SafeRunner(Runner):
    """mmengine's Runner with safe and atomic checkpoints, a quiet console, and CPU processes."""

    @classmethod
    def from_cfg_on(cls, cfg: Config, device: str, strict: bool) -> "SafeRunner":
        cls.device, cls.strict = device, strict  # Runner's constructor already needs them and takes no more arguments
        return cls.from_cfg(cfg)

    def __init__(self, *args: Any, **kwargs: Any):
        self.device, self.strict = type(self).device, type(self).strict
        self.previous: list[Path] = []  # what the first checkpoint replaces
        self.console = sys.stdout  # what is printed while the loops run goes to the log file
        super().__init__(*args, **kwargs)

    def build_training(self) -> None:
        """Builds the loops with their data sets, the optimiser and the schedulers, as ``train()`` otherwise would."""
        with self.prints_to_log():
            self._train_loop = self.build_train_loop(self._train_loop)
            loader = self._train_loop.dataloader
            if len(loader) == 0:
                found, wanted = len(loader.dataset), getattr(loader, "batch_size", None)
                raise UserError(f"{found} training images do not fill a batch of {wanted}; lower batch_size")
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
            self.scale_lr(self.optim_wrapper, self.auto_scale_lr)
            self.auto_scale_lr = None  # once is enough
            if self.param_schedulers is not None:
                self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
            if self._val_loop is not None:
                self._val_loop = self.build_val_loop(self._val_loop)

    def train(self) -> nn.Module:
        with self.prints_to_log():
            return super().train()

    def val(self) -> dict[str, float]:
        with self.prints_to_log():
            return plain(super().val())

    def test(self) -> dict[str, float]:
        with self.prints_to_log():
            return plain(super().test())

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The log file gets everything; the console errors only, since ProgressHook speaks there."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger

    @contextlib.contextmanager
    def prints_to_log(self) -> Iterator[None]:
        """What libraries print or warn of meanwhile goes to the log file; our own warnings stay on the console."""
        path = self.logger.log_file if self.rank == 0 else os.devnull
        with open(path, "a", buffering=1) as file, contextlib.redirect_stdout(file), library_warnings_to(file):
            yield

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """The model on this run's device, in DDP where there are several processes."""
        self.match_structures(model)
        model = model.to(self.device)
        if not self.distributed:
            return revert_sync_batchnorm(model)
        on_gpu = self.device == "cuda"
        if not on_gpu:
            model = revert_sync_batchnorm(model)
        elif self.cfg.get("sync_bn"):
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        options = dict(
            broadcast_buffers=False, find_unused_parameters=self.cfg.get("find_unused_parameters", False)
        ) | dict(model_wrapper_cfg or {})
        options.pop("type", None)
        return MMDistributedDataParallel(model, device_ids=[torch.cuda.current_device()] if on_gpu else None, **options)

    def match_structures(self, model: nn.Module) -> None:
        """Gives backbones the structure of the weights they will load, while neither DDP nor an optimiser knows them.

        The load that follows does not read the file again.
        """
        for module in model.modules():
            if isinstance(module, PyramidBackbone) and module.pretrained is not None and not self._load_from:
                match_structure(module, module.pretrained)
        if self._load_from:
            content = read_ahead(self._load_from)
            match_structures(model, tensors_of(content), read_own_meta(content))

    def _init_model_weights(self) -> None:
        super()._init_model_weights()
        if self.rank == 0:
            for module in unwrap(self.model).modules():
                if isinstance(module, PyramidBackbone) and module.load_report:
                    print(loaded_line(module), file=self.console, flush=True)

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = False, revise_keys: Any = None
    ) -> dict[str, Any]:
        """Reads a checkpoint without running code from it and loads its weights.

        Testing and resuming need every tensor; ``load_from`` may bring another head, but not another backbone.
        """
        content = read_checkpoint(filename)
        if not isinstance(content.get("state_dict"), dict):
            content = {"state_dict": tensors_of(content), "meta": content.get("meta", {})}
        if self._resume and not {"meta", "optimizer", "message_hub"} <= set(content):
            raise UserError(f"{filename} holds weights only and cannot be resumed; use --cfg-options load_from=...")
        if self._resume:
            content["message_hub"] = without_history(content["message_hub"])
        self.call_hook("after_load_checkpoint", checkpoint=content)
        model = unwrap(self.model)
        state = {name.removeprefix("module."): value for name, value in content["state_dict"].items()}
        exact = strict or self.strict or self._resume
        left_out = load_state(model, state, filename, exact, read_own_meta(content))
        if left_out and self.rank == 0:
            print(f"note: {filename} does not fit the model everywhere: {left_out}", file=sys.stderr)
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return content

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Writes weights, optimiser, schedulers and records in plain types, and renames the file into place."""
        meta = dict(meta or {})
        meta.setdefault("epoch", self.epoch + by_epoch)
        meta.setdefault("iter", self.iter + (not by_epoch))
        meta.update(
            cfg=self.cfg.pretty_text,
            seed=self.seed,
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S"),
            dataset_meta=getattr(self.train_dataloader.dataset, "metainfo", None),
        )
        content = dict(
            meta=plain(meta),
            state_dict={name: value.cpu() for name, value in unwrap(self.model).state_dict().items()},
            message_hub=plain(without_history(self.message_hub.state_dict())),
        )
        if save_optimizer:
            content["optimizer"] = plain(self.optim_wrapper.state_dict())
        if save_param_scheduler and self.param_schedulers is not None:
            content["param_schedulers"] = plain([scheduler.state_dict() for scheduler in self.param_schedulers])
        self.call_hook("before_save_checkpoint", checkpoint=content)
        saved = Path(out_dir) / filename
        save_safely(content, saved)
        self.replace_previous(saved)

    def replace_previous(self, saved: Path) -> None:
        """Removes the run that this one overwrites, now that there is a checkpoint to take its place."""
        kept = (saved.absolute(), Path(self.log_dir))  # where old and new have the same name
        for path in self.previous:
            if path not in kept:
                remove(path)
        if self.previous:
            Runner.dump_config(self)
        self.previous = []

    def dump_config(self) -> None:
        """Nothing here: build_runner writes the config of a training run once that run stands."""


@contextlib.contextmanager
def library_warnings_to(file: TextIO | None) -> Iterator[None]:
    """Warnings of other packages go to ``file``, or nowhere; those of this one become a line on stderr."""

    def show(message: Warning, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        if Path(filename).is_relative_to(REPOSITORY) and "site-packages" not in filename:
            print(f"note: {message}", file=sys.stderr)
        elif file is not None:
            file.write(warnings.formatwarning(message, category, filename, lineno))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def pick_device(device: str | None) -> str:
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("--device cuda: this machine has no GPU that PyTorch can use; allowed: cpu")
    return device or ("cuda" if available else "cpu")


def lock(work_dir: Path) -> None:
    """Marks ``work_dir`` as being trained in; the mark goes when the process ends, however it ends."""
    if work_dir in LOCKS:
        return
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        file = open(work_dir / ".lock", "a")  # noqa: SIM115  held open as long as the process lives
    except OSError as error:
        raise UserError(f"--work-dir {work_dir}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"work dir {work_dir} is in use by a running training; choose another --work-dir") from None
    LOCKS[work_dir] = file


def choose_start(
    cfg: Config, work_dir: Path, resume: bool | str | Path | None, overwrite: bool, main_process: bool
) -> None:
    """Writes into ``cfg`` what the run starts from; refuses to start over an earlier run."""
    resume = resume if resume is not None else cfg.get("resume", False)
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if resume is True and cfg.get("load_from"):
        resume = cfg.load_from
    cfg.resume = bool(resume)
    if resume:
        cfg.load_from = str(last_checkpoint(work_dir) if resume is True else resume)
    if cfg.get("load_from"):
        if not Path(cfg.load_from).is_file():
            raise UserError(f"no such checkpoint file: {cfg.load_from}")
        if overwrite and Path(cfg.load_from).absolute().is_relative_to(work_dir):
            raise UserError(f"load_from={cfg.load_from} is in the work dir that --overwrite empties; move it first")
    if main_process and not resume and not overwrite and is_used(work_dir):
        raise UserError(f"work dir {work_dir} holds a run; add --resume or --overwrite, or choose another --work-dir")


def last_checkpoint(work_dir: Path) -> Path:
    """The newest checkpoint of a run, also where the work dir was moved since."""
    record = work_dir / "last_checkpoint"
    if not record.is_file():
        raise UserError(f"nothing to resume in {work_dir}: it holds no checkpoint; start without --resume")
    path = Path(record.read_text().strip())
    path = path if path.is_file() else work_dir / path.name
    if not path.is_file():
        raise UserError(f"nothing to resume in {work_dir}: its last checkpoint {path.name} is gone")
    return path


def is_used(work_dir: Path) -> bool:
    return (work_dir / "last_checkpoint").exists() or any(work_dir.glob("*.pth"))


def earlier_run(work_dir: Path) -> list[Path]:
    """What training left in ``work_dir``: checkpoints, their record, logs; nothing that others put there."""
    logs = [path for path in work_dir.iterdir() if path.is_dir() and re.fullmatch(r"\d{8}_\d{6}", path.name)]
    return [*work_dir.glob("*.pth"), *work_dir.glob("last_checkpoint"), *logs]


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def prepare_training(cfg: Config, amp: bool, device: str) -> None:
    if cfg.get("train_dataloader") is None or cfg.get("optim_wrapper") is None:
        raise UserError(f"config {cfg.filename} lacks train_dataloader or optim_wrapper, so it cannot be trained")
    if amp:
        use_autocast(cfg.optim_wrapper)
    if cfg.optim_wrapper.get("type") == "AmpOptimWrapper" and device == "cpu":
        raise UserError("optim_wrapper.type='AmpOptimWrapper' needs a GPU; on the CPU use OptimWrapper with --amp")


def prepare_testing(cfg: Config, checkpoint: str | Path) -> None:
    if cfg.get("test_dataloader") is None or cfg.get("test_evaluator") is None:
        raise UserError(f"config {cfg.filename} lacks test_dataloader or test_evaluator, so it cannot be tested")
    if not Path(checkpoint).is_file():
        raise UserError(f"no such checkpoint file: {checkpoint}")
    cfg.load_from, cfg.resume = str(checkpoint), False
    for split in ("train", "val"):
        for part in ("dataloader", "evaluator", "cfg"):
            cfg[f"{split}_{part}"] = None
    cfg.optim_wrapper = cfg.param_scheduler = None


def name_uniquely(cfg: Config, stem: str) -> None:
    """mmengine keeps loggers, visualizers and scopes by name for the whole process."""
    cfg.experiment_name = f"{cfg.get('experiment_name') or stem}_{next(RUNS)}"
    if cfg.get("visualizer"):
        cfg.visualizer.name = cfg.experiment_name


def add_hooks(cfg: Config) -> None:
    """Puts this package's hooks in the place of mmengine's."""
    default = cfg.setdefault("default_hooks", ConfigDict())
    saving = default.get("checkpoint", dict(interval=1))
    if saving is not None and saving.get("type", "CheckpointHook") == "CheckpointHook":
        default.checkpoint = dict(saving, type="SafeCheckpointHook")
    custom = [*(cfg.get("custom_hooks") or []), dict(type="AverageBuffersHook")]
    if not any(isinstance(hook, dict) and hook.get("type") == "ProgressHook" for hook in custom):
        custom.append(dict(type="ProgressHook", interval=(default.get("logger") or {}).get("interval", 50)))
    cfg.custom_hooks = custom


def drop_pinning(cfg: Config) -> None:
    """Pinned memory is for copies to a GPU."""
    for split in ("train", "val", "test"):
        if cfg.get(f"{split}_dataloader"):
            cfg[f"{split}_dataloader"].pop("pin_memory", None)


def unwrap(model: nn.Module) -> nn.Module:
    """The network itself, out of DDP and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def load_state(
    model: nn.Module, state: dict[str, Any], source: str, exact: bool, own: dict[str, Any] | None = None
) -> str:
    """Loads a state dict; returns what did not fit, in words, or raises it. ``own``: from ``read_own_meta``.

    Raises:
        UserError: with ``exact`` for any tensor missing, unexpected or of another shape, otherwise for one of the
            backbone. The model is unchanged then.
    """
    with unchanged_on_error(model):
        match_structures(model, state, own)
        target = model.state_dict()
        missing = [name for name in target if name not in state and not name.endswith("num_batches_tracked")]
        unexpected = [name for name in state if name not in target]
        shapes = [name for name in target if name in state and target[name].shape != state[name].shape]
        parts = []
        if shapes:
            name = shapes[0]
            found, wanted = tuple(state[name].shape), tuple(target[name].shape)
            parts.append(f"{len(shapes)} tensors of another shape (first {name}: file {found}, model {wanted})")
        for word, names in (("missing", missing), ("unexpected", unexpected)):
            if names:
                parts.append(f"{len(names)} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        left_out = "; ".join(parts)
        if exact and left_out:
            raise UserError(f"{source} does not fit the model: {left_out}")
        if any(name.startswith("backbone.") for name in (*missing, *unexpected, *shapes)):
            raise UserError(f"{source} does not fit the model's backbone: {left_out}")
    fits = {name: value for name, value in state.items() if name in target and name not in shapes}
    model.load_state_dict(fits, strict=False)
    return left_out


def loaded_line(backbone: PyramidBackbone) -> str:
    """What ``pretrained`` gave: a silent load is one that nobody can trust."""
    report = backbone.load_report
    left_out = f"; left out: {shorten(report.unexpected, 2)}" if report.unexpected else ""
    place = f", {report.place}" if report.place not in ("", "state_dict") else ""
    return (
        f"{backbone.arch}: {len(report.loaded)} tensors from {backbone.pretrained} ({report.source}{place}){left_out}"
    )


def without_history(message_hub: dict[str, Any]) -> dict[str, Any]:
    """A message hub's state without the curves, which are in the log file and would need mmengine's classes to read."""
    info = message_hub["runtime_info"]
    keys = {name: value for name, value in message_hub["resumed_keys"].items() if name in info}
    return dict(log_scalars={}, runtime_info=dict(info), resumed_keys=keys)


def plain(value: Any) -> Any:
    """Python's own types and CPU tensors all the way down, so that a weights-only load can read them."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | set):
        return [plain(part) for part in value]
    if isinstance(value, tuple):
        return tuple(plain(part) for part in value)
    return value if value is None or isinstance(value, str | int | float | bool | bytes) else str(value)
