"""TensorBoard, W&B and MLflow as backends of mmengine's visualizer. Their failures do not end a training."""

import os
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend

from backbones.errors import UserError, one_line
from backbones.files import replaced_file
from ziggurat.engine.config_text import text_of
from ziggurat.engine.console import say_note
from ziggurat.engine.options import flat

PROJECT = "ziggurat"  # the project of W&B and the experiment of MLflow, unless their own variables name another
MAX_PARAMS, MAX_TEXT = 100, 500  # MLflow's limits: parameters of one call, letters of a value


class Tracker(BaseVisBackend):
    """What the trackers have in common. ``add_config`` starts one; it is never needed in a test.

    Scalars are named ``train/loss``, ``train/lr``, ... by iteration and ``val/top1``, ... by epoch. In a training by
    iterations the latter go by iteration, too. After a failure the tracker says so once and does nothing more.

    Attributes:
        title: the name in messages.
        package: the package that a tracker imports, and the word of ``--track``.
        optional: whether a run does without the tracker where the package is absent.
    """

    title: str
    package: str
    optional = False

    def __init__(self, save_dir: str):
        super().__init__(save_dir)
        self.folder = save_dir
        self.works = False

    @abstractmethod
    def start(self, cfg: Config) -> None:
        """Begins a run, or goes on with the run of the work dir if ``cfg.resume`` says so."""

    @abstractmethod
    def log(self, scalars: dict[str, float], step: int, unit: str) -> None:
        """Records scalars at a step, whose ``unit`` is "iteration" or "epoch"."""

    @abstractmethod
    def finish(self) -> None:
        """Ends the run."""

    @property
    def experiment(self) -> "Tracker":
        return self

    def _init_env(self) -> None:
        """Does nothing: ``add_config`` starts a tracker, which needs the config."""

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Starts the tracker. Raises UserError where that fails, e.g. without a login."""
        logger = (config.get("default_hooks") or {}).get("logger") or {}
        self.by_epoch = logger.get("log_metric_by_epoch", True)
        try:
            self.start(config)
        except Exception as error:  # of a package that is not ours
            raise UserError(f"{self.title} cannot start: {one_line(error)}") from error
        self.works = True

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **_: Any) -> None:
        trains = "iter" in scalar_dict  # mmengine adds the word to the scalars of a training step
        unit = "epoch" if self.by_epoch and not trains else "iteration"
        self.attempt(self.log, tagged(scalar_dict, "train" if trains else "val"), step, unit)

    def add_scalar(self, name: str, value: Any, step: int = 0, **_: Any) -> None:
        self.attempt(self.log, tagged({name: value}, ""), step, "iteration")

    def close(self) -> None:
        self.attempt(self.finish)
        self.works = False

    def attempt(self, call: Callable[..., None], *args: Any) -> None:
        """Calls a function of the tracker, if it works. A failure becomes a note."""
        if not self.works:
            return
        try:
            call(*args)
        except Exception as error:  # of a network, a disk or a server
            self.works = False
            say_note(f"{self.title} stopped: {one_line(error)}; the training goes on without it")


@VISBACKENDS.register_module(force=True)
class TensorBoard(Tracker):
    """TensorBoard's event files, in the folder of the JSON lines. ``tensorboard --logdir work_dirs`` shows all runs."""

    title, package, optional = "TensorBoard", "tensorboard", True

    def start(self, cfg: Config) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder)
        self.writer.add_text("config", "".join(f"    {line}\n" for line in cfg.pretty_text.splitlines()))

    def log(self, scalars: dict[str, float], step: int, unit: str) -> None:
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        if unit == "epoch":
            self.writer.flush()

    def finish(self) -> None:
        self.writer.close()


@VISBACKENDS.register_module(force=True)
class WeightsAndBiases(Tracker):
    """A run of Weights & Biases. Its own environment variables hold: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, ...

    Args:
        save_dir: the folder of the JSON lines.
        init_kwargs: arguments of ``wandb.init``, e.g. dict(project="roads", tags=["first"]).
    """

    title, package = "W&B", "wandb"

    def __init__(self, save_dir: str, init_kwargs: dict[str, Any] | None = None):
        super().__init__(save_dir)
        self.init_kwargs = dict(init_kwargs or {})

    def start(self, cfg: Config) -> None:
        import wandb

        kept = kept_run(cfg, self.package)
        defaults = dict(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=os.environ.get("WANDB_NAME") or Path(cfg.work_dir).name,
            dir=cfg.work_dir,
            config=cfg.to_dict(),
            allow_val_change=True,
            **(dict(id=kept, resume="allow") if kept else {}),
        )
        self.run = wandb.init(**{**defaults, **self.init_kwargs})
        keep_run(cfg, self.package, self.run.id)
        self.run.define_metric("train/*", step_metric="iteration")
        self.run.define_metric("val/*", step_metric="epoch" if self.by_epoch else "iteration")

    def log(self, scalars: dict[str, float], step: int, unit: str) -> None:
        self.run.log({**scalars, unit: step})

    def finish(self) -> None:
        self.run.finish()


@VISBACKENDS.register_module(force=True)
class MLflow(Tracker):
    """A run of MLflow. Its own environment variables hold: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, ...

    Args:
        save_dir: the folder of the JSON lines.
        exp_name: the experiment.
        run_name: default: the name of the work dir.
        tags: of the run.
        tracking_uri: the server or database. MLflow's default is a database in the current folder.
    """

    title, package = "MLflow", "mlflow"

    def __init__(
        self,
        save_dir: str,
        exp_name: str | None = None,
        run_name: str | None = None,
        tags: dict[str, str] | None = None,
        tracking_uri: str | None = None,
    ):
        super().__init__(save_dir)
        self.exp_name, self.run_name, self.tags, self.tracking_uri = exp_name, run_name, tags, tracking_uri

    def start(self, cfg: Config) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(self.tracking_uri)
        kept = kept_run(cfg, self.package)
        if kept:
            self.id = kept
            self.client.update_run(kept, status="RUNNING")
            return
        name = self.exp_name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self.client.get_experiment_by_name(name)
        group = found.experiment_id if found else self.client.create_experiment(name)
        run_name = self.run_name or os.environ.get("MLFLOW_RUN_NAME") or Path(cfg.work_dir).name
        self.id = self.client.create_run(group, run_name=run_name, tags=self.tags).info.run_id
        keep_run(cfg, self.package, self.id)
        self.log_params(cfg)
        self.client.log_text(self.id, text_of(cfg), "config.py")

    def log_params(self, cfg: Config) -> None:
        """Records the numbers and texts of the config's parts that runs are compared by."""
        from mlflow.entities import Param

        parts = {name: cfg.get(name) or {} for name in ("model", "optim_wrapper", "train_cfg", "train_dataloader")}
        values = {name: value for name, value in flat(parts).items() if isinstance(value, bool | int | float | str)}
        params = [Param(name, str(value)[:MAX_TEXT]) for name, value in values.items()]
        for first in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.id, params=params[first : first + MAX_PARAMS])

    def log(self, scalars: dict[str, float], step: int, unit: str) -> None:
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in scalars.items()])

    def finish(self) -> None:
        self.client.set_terminated(self.id)


def tagged(scalars: dict[str, Any], part: str) -> dict[str, float]:
    """The numbers under their names in a tracker, such as ``train/loss``. What counts steps is left out."""
    numbers = {}
    for name, value in scalars.items():
        is_number = isinstance(value, int | float | np.number) or getattr(value, "size", 0) == 1
        if is_number and name not in ("iter", "epoch", "step"):
            numbers[f"{part}/{name}" if part else name] = float(value)
    return numbers


def kept_run(cfg: Config, package: str) -> str | None:
    """The tracker's name of the run that is resumed; None for a new run."""
    path = run_file(cfg, package)
    return path.read_text().strip() or None if cfg.get("resume") and path.is_file() else None


def keep_run(cfg: Config, package: str, name: str) -> None:
    """Writes the tracker's name of a run into the work dir, for a later ``--resume``."""
    path = run_file(cfg, package)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as beside:
        beside.write_text(f"{name}\n")


def run_file(cfg: Config, package: str) -> Path:
    return Path(cfg.work_dir) / f"{package}_run"
