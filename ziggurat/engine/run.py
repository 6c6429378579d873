"""Building a run: the config and the work dir are checked, then a runner for training or for testing is built."""

import contextlib
import copy
import uuid
from pathlib import Path
from typing import Any

from mmengine.config import Config

from backbones.errors import UserError
from backbones.weights import read_ahead, read_own_meta
from ziggurat.engine.added_hooks import add_hooks
from ziggurat.engine.auto_batch import settle_batch_size
from ziggurat.engine.batch_of_one import check_batches_of_one
from ziggurat.engine.class_weights import settle_class_weights
from ziggurat.engine.console import library_warnings_to
from ziggurat.engine.formatted_once import format_configs_once
from ziggurat.engine.freezing import tell_frozen
from ziggurat.engine.log_file import prints_to_log
from ziggurat.engine.loss_option import tell_loss
from ziggurat.engine.mistakes import config_mistakes
from ziggurat.engine.non_finite import Replayed
from ziggurat.engine.optim import use_autocast
from ziggurat.engine.processes import env_rank, init_processes, pick_device
from ziggurat.engine.rates import note_short_run, scale_rate
from ziggurat.engine.repeated import tell_repeats
from ziggurat.engine.resumed import config_before, follow_data, follow_schedule
from ziggurat.engine.runner import SafeRunner
from ziggurat.engine.tasks import task_for
from ziggurat.engine.trackers import use_trackers
from ziggurat.engine.work_dir import ReplaceRunHook, WorkDir
from ziggurat.engine.wrappers import unwrap, wrapper_class

PARTS = {split: tuple(f"{split}_{part}" for part in ("dataloader", "cfg", "evaluator")) for split in ("val", "test")}
PARTS["train"] = ("train_dataloader", "train_cfg", "optim_wrapper")


def build_training(
    cfg: Config,
    work_dir: str | Path | None = None,
    resume: bool | str | Path | None = None,
    overwrite: bool = False,
    launcher: str = "none",
    amp: bool | str = False,
    device: str | None = None,
    keep_schedule: bool = False,
) -> SafeRunner:
    """A runner whose ``train()`` trains. Data sets, network, optimiser and schedulers are built here.

    Args:
        cfg: from ``load_config``; it is not changed.
        work_dir: default ``cfg.work_dir``, else ``work_dirs/<config name>``.
        resume: True continues from the last checkpoint of ``work_dir``, a path from that checkpoint. ``"auto"`` is True
            if ``work_dir`` holds a checkpoint, else False.
        overwrite: removes the earlier run in ``work_dir``, once the new run has saved a checkpoint.
        launcher: ``"none"``, ``"pytorch"`` or ``"slurm"``. The latter two join the group of processes here.
        amp: True or ``"bfloat16"`` trains in bfloat16, ``"float16"`` in float16 with a scaled loss, on a GPU.
        device: ``"cpu"``, ``"cuda"``, or None for "cuda" if there is a GPU.
        keep_schedule: a resumed run takes schedule, length and optimiser from the checkpoint, and batches may have
            another size. Otherwise a config that differs there is an error.

    Raises:
        UserError: there is no GPU for ``"cuda"``, the work dir is in use or holds a run, nothing can be resumed, data
            are absent or malformed, or a name or value in the config is wrong. ``work_dir`` then keeps its content.
    """
    cfg, folder, device = copy.deepcopy(cfg), work_dir_of(cfg, work_dir), pick_device(device)
    first = env_rank(launcher) == 0
    with contextlib.ExitStack() as undo:
        if first:
            folder.lock()
            undo.callback(folder.release)
            folder.sweep()
        choose_start(cfg, folder, resume, overwrite, first)
        check_parts(cfg, needed="train")
        choose_precision(cfg, amp, device)
        if cfg.resume:
            follow_schedule(cfg, keep_schedule)
            follow_checkpoint_of(cfg, cfg.load_from)
        check_data(cfg, ("train", "val"))
        init_processes(launcher, device)  # the notes below are those of the first process
        tell_loss(cfg)
        settle_class_weights(cfg)
        before = config_before(cfg)
        task_for(cfg).settle_training(cfg, before)
        settle_batch_size(cfg, device, before)
        earlier = folder.earlier_run() if overwrite and first else []
        with config_mistakes(cfg):
            runner = build_runner(cfg, folder, launcher, device)
            build_parts(runner)
        follow_data(runner, keep_schedule)
        if first:
            runner.folder = folder
        if earlier:
            runner.register_hook(ReplaceRunHook(folder, earlier))
        elif first:
            folder.write_config(runner.cfg)
        undo.pop_all()
    return runner


def replay(cfg: Config, checkpoint: str | Path, **how: Any) -> float:
    """The loss of the step that follows a checkpoint; nothing is trained. A failed run's file is such a checkpoint.

    Args:
        cfg: the run's config.
        checkpoint: the file. A folder beside it, with the file's name, gets the log.
        **how: launcher, amp and device, as for :func:`build_training`, and as in the run.

    Raises:
        UserError: as :func:`build_training`, or no step follows the checkpoint.
    """
    if not Path(checkpoint).is_file():
        raise UserError(f"no such checkpoint file: {checkpoint or repr(checkpoint)}")
    cfg = copy.deepcopy(cfg)
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if hook.get("type") != "NonFiniteHook"]
    cfg.custom_hooks = [*hooks, dict(type="NonFiniteHook", replay=True)]
    cfg.visualizer, cfg.track = {**(cfg.get("visualizer") or dict(type="Visualizer")), "vis_backends": []}, None
    runner = build_training(cfg, Path(checkpoint).with_suffix(""), resume=checkpoint, **how)
    try:
        runner.train()
    except Replayed as step:
        return step.loss
    raise UserError(f"{checkpoint} is the end of its training; no step follows")


def build_testing(
    cfg: Config,
    checkpoint: str | Path | None,
    work_dir: str | Path | None = None,
    launcher: str = "none",
    device: str | None = None,
) -> SafeRunner:
    """A runner whose ``test()`` gives the metrics of the config's test data.

    Args:
        cfg, work_dir, launcher, device: as for :func:`build_training`.
        checkpoint: the file with the weights, as a run here writes it. None tests the weights that the backbone's
            ``pretrained`` names, in any published layout, with their head. Every tensor must fit.

    Raises:
        UserError: there is no GPU for ``"cuda"``, the checkpoint or data are absent, or a name or value in the config
            is wrong.
    """
    cfg, folder, device = copy.deepcopy(cfg), work_dir_of(cfg, work_dir), pick_device(device)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"no such checkpoint file: {checkpoint}")
    cfg.load_from, cfg.resume = checkpoint and str(checkpoint), False
    for name in (*PARTS["train"], *PARTS["val"], "param_scheduler"):
        cfg[name] = None
    check_parts(cfg, needed="test")
    if checkpoint is not None:
        follow_checkpoint_of(cfg, checkpoint)
    check_data(cfg, ("test",))
    with config_mistakes(cfg):
        runner = build_runner(cfg, folder, launcher, device)
    if checkpoint is None:
        runner.load_pretrained()
    return runner


def follow_checkpoint_of(cfg: Config, checkpoint: str | Path) -> None:
    """``Task.follow_checkpoint`` for a checkpoint's file."""
    task_for(cfg).follow_checkpoint(cfg, read_own_meta(read_ahead(checkpoint)), str(checkpoint))


def build_runner(cfg: Config, folder: WorkDir, launcher: str, device: str) -> SafeRunner:
    """Joins the group of processes, and builds the runner of a checked config. The config is changed in place."""
    cfg.work_dir, cfg.launcher, cfg.device = str(folder.path), launcher, device
    format_configs_once()
    wrapper_class(cfg.get("model_wrapper_cfg"))  # a bad wrapper is refused in a single process, too
    init_processes(launcher, device)
    # mmengine keeps loggers, visualizers and scopes by this name for the whole process.
    cfg.experiment_name = f"{cfg.get('experiment_name') or stem_of(cfg)}_{uuid.uuid4().hex[:8]}"
    use_trackers(cfg)
    cfg.visualizer.name = cfg.experiment_name
    add_hooks(cfg)
    if device == "cpu":
        drop_pinning(cfg)
    with library_warnings_to(None):
        return SafeRunner.from_cfg(cfg)


def build_parts(runner: SafeRunner) -> None:
    """Builds loops, data sets, optimiser and schedulers. Mistakes in the config show before the run starts.

    Raises:
        UserError: the training images do not fill a batch, a batch norm cannot train on a batch of one, or the task's
            ``check_training`` refuses the parts.
    """
    with prints_to_log(runner):
        loader = runner.train_loop.dataloader
        if len(loader) == 0:
            found, wanted = len(loader.dataset), getattr(loader.batch_sampler, "batch_size", None)
            raise UserError(f"{found} training images do not fill a batch of {wanted}; lower batch_size")
        model = unwrap(runner.model)
        if hasattr(model, "class_names"):
            model.class_names = getattr(loader.dataset, "metainfo", {}).get("classes")
        check_batches_of_one(runner.cfg, loader)
        task_for(runner.cfg).check_training(runner.cfg, model, loader)
        tell_repeats(loader.dataset)
        tell_frozen(runner.cfg, model)
        scale_rate(runner)
        note_short_run(runner.cfg)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner.param_schedulers is not None:
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        _ = runner.val_loop  # this property builds the loop


def work_dir_of(cfg: Config, work_dir: str | Path | None) -> WorkDir:
    """The run's folder: the given one, else the config's, else ``work_dirs/<config name>``."""
    return WorkDir(work_dir or cfg.get("work_dir") or Path("work_dirs") / stem_of(cfg))


def stem_of(cfg: Config) -> str:
    """The config file's name without its suffix."""
    return Path(cfg.filename).stem if cfg.filename else "run"


def choose_start(cfg: Config, folder: WorkDir, resume: bool | str | Path | None, overwrite: bool, first: bool) -> None:
    """Writes into ``cfg`` the checkpoint that the run starts from.

    Args:
        first: whether this is the first process. Only the first process checks the folder for an earlier run, since
            other processes may look after the first has written there.

    Raises:
        UserError: the options exclude each other, a checkpoint is absent, or the folder holds a run.
    """
    resume = resume if resume is not None else cfg.get("resume", False)
    if resume == "auto":
        resume = folder.is_used() and folder.last_checkpoint()
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if resume is True and cfg.get("load_from"):
        resume = cfg.load_from
    cfg.resume = bool(resume)
    if resume:
        cfg.load_from = str(folder.last_checkpoint() if resume is True else resume)
    if cfg.get("load_from"):
        if not Path(cfg.load_from).is_file():
            raise UserError(f"no such checkpoint file: {cfg.load_from}")
        if overwrite and Path(cfg.load_from).absolute().is_relative_to(folder.path):
            raise UserError(f"load_from={cfg.load_from} is in the work dir that --overwrite empties; move it first")
    if first and not resume and not overwrite and folder.is_used():
        raise UserError(
            f"work dir {folder.path} holds a run; add --resume or --overwrite, or choose another --work-dir"
        )


def check_parts(cfg: Config, needed: str) -> None:
    """Raises UserError if the config lacks a loader, loop or evaluator that a split needs.

    Args:
        needed: the split that must be there, "train" or "test". Another split may be absent as a whole.
    """
    for split, parts in PARTS.items():
        absent = [part for part in parts if cfg.get(part) is None]
        if absent and (split == needed or len(absent) < len(parts)):
            raise UserError(f"config {cfg.filename} lacks {', '.join(absent)}; {split} needs {', '.join(parts)}")


def check_data(cfg: Config, splits: tuple[str, ...]) -> None:
    """Lets the config's task look at the data files of these splits. UserError if they are unusable."""
    try:
        task_for(cfg).check_data(cfg, splits)
    except UserError as error:
        raise UserError(f"{error}. The data are unusable; tools/check_dataset.py lists all findings") from error


def choose_precision(cfg: Config, amp: bool | str, device: str) -> None:
    """With ``amp``, switches the optimiser wrapper to mixed precision. Raises UserError for loss scaling on a CPU."""
    if amp:
        use_autocast(cfg.optim_wrapper, "bfloat16" if amp is True else amp)
    if cfg.optim_wrapper.get("type") == "AmpOptimWrapper" and device == "cpu":
        raise UserError("float16 with a scaled loss (AmpOptimWrapper) needs a GPU; on the CPU use --amp, for bfloat16")


def drop_pinning(cfg: Config) -> None:
    """Removes ``pin_memory`` from the loaders: pinned memory only helps copies to a GPU."""
    for split in ("train", "val", "test"):
        if cfg.get(f"{split}_dataloader"):
            cfg[f"{split}_dataloader"].pop("pin_memory", None)
