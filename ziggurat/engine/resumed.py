"""What a resumed run takes over from the checkpoint's run: its schedule, its length, its optimiser, and its data.

A checkpoint's optimiser and schedulers replace those of the config. So a change of the config would have no effect, or
half of one: schedules that end before the run does. Such a change is an error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.errors import UserError, shorten, shown
from backbones.weights import read_ahead, read_own_meta
from ziggurat.engine.console import say_note
from ziggurat.engine.fingerprint import Fingerprint, fingerprint_of
from ziggurat.engine.options import flat
from ziggurat.engine.progress import by_epoch
from ziggurat.engine.rates import follow_accumulation
from ziggurat.engine.tasks import task_for

# What resuming takes from the checkpoint, and its entries that may change all the same.
PARTS: dict[str, tuple[str, ...]] = {
    "param_scheduler": (),
    "auto_scale_lr": (),
    "optim_wrapper": ("type", "dtype", "loss_scale", "clip_grad"),
}
LENGTHS = ("max_epochs", "max_iters")  # of train_cfg
NEW_RUN = "--cfg-options load_from={} starts a new run from these weights"


def follow_schedule(cfg: Any, keep: bool) -> None:
    """Compares the config of a resumed run with that of ``cfg.load_from``, as far as the checkpoint replaces it.

    Args:
        cfg: the completed config, with ``load_from``.
        keep: writes the checkpoint's schedule, optimiser and length into ``cfg`` in place.

    Raises:
        UserError: they differ, and ``keep`` is False. A checkpoint without a config of ours is not compared.
    """
    meta, file = read_own_meta(read_ahead(cfg.load_from)) or {}, Path(cfg.load_from).name
    then, task = meta.get("config"), task_for(cfg).name
    if meta.get("task") not in (None, task):
        raise UserError(f"--resume of {file}: it is of a run of {meta['task']}, and {cfg.filename} is of {task}")
    if not isinstance(then, Mapping):
        return
    before, now = taken_over(then), taken_over(cfg.to_dict())
    counts = [[length for length in LENGTHS if f"train_cfg.{length}" in values] for values in (now, before)]
    if counts[0] != counts[1]:
        raise UserError(
            f"--resume of {file}: {cfg.filename} has train_cfg.{', '.join(counts[0])}, and the checkpoint's run had "
            f"{', '.join(counts[1])}; {NEW_RUN.format(cfg.load_from)}"
        )
    apart = [
        f"{key} is {shown(now.get(key))} and was {shown(before.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if now.get(key) != before.get(key)
    ]
    if not apart:
        return
    if not keep:
        ways = f"--keep-schedule goes on as before, and {NEW_RUN.format(cfg.load_from)}"
        raise UserError(f"--resume of {file}: {shorten(apart)}; {ways}")
    for part, free in PARTS.items():
        given = cfg.get(part)
        cfg[part] = then.get(part)
        if free:
            cfg[part] = without(cfg[part], free) | {name: given[name] for name in free if name in given}
    for name in LENGTHS:
        cfg.train_cfg.pop(name, None)
        if name in then["train_cfg"]:
            cfg.train_cfg[name] = then["train_cfg"][name]
    follow_accumulation(cfg)
    say_note(f"the checkpoint's values are kept: {shorten(apart)}")


def config_before(cfg: Any) -> Mapping[str, Any] | None:
    """The config of the run that is resumed; None for a new run, and for a checkpoint without a config of ours."""
    then = (read_own_meta(read_ahead(cfg.load_from)) or {}).get("config") if cfg.get("resume") else None
    return then if isinstance(then, Mapping) else None


def taken_over(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config that resuming takes from the checkpoint, by their dotted names. None is not listed."""
    parts = {part: without(config.get(part), free) for part, free in PARTS.items()}
    parts["train_cfg"] = {name: (config.get("train_cfg") or {}).get(name) for name in LENGTHS}
    values = {
        name: list(value) if isinstance(value, tuple) else value for name, value in flat(parts, lists=True).items()
    }
    return {name: value for name, value in values.items() if value is not None}


def without(part: Any, names: tuple[str, ...]) -> Any:
    """A copy of a config's part without these entries. What is no dict has none."""
    return {name: value for name, value in part.items() if name not in names} if isinstance(part, Mapping) else part


def follow_data(runner: Any, keep: bool) -> None:
    """Gives a run the fingerprint of its training data, and compares it with that of a checkpoint to resume.

    Args:
        runner: the run, whose parts are built. Its ``start`` is the checkpoint's content.
        keep: lets another number of images in a step, or in an epoch, pass with a note.

    Raises:
        UserError: a step has another number of images. Or an epoch has, in a run that counts epochs.
    """
    runner.data = now = fingerprint_of(runner.train_dataloader, runner.world_size)
    then = (runner.start or {}).get("meta", {}).get("data") if runner.cfg.resume else None
    if not isinstance(then, Mapping) or set(then) != set(Fingerprint._fields):
        return  # not written by a run of ours
    before = Fingerprint(**then)
    where = f"--resume of {Path(runner.cfg.load_from).name}"
    apart = []
    if now.batch != before.batch:
        apart.append(f"a batch of all processes has {now.batch} images and had {before.batch}")
    if now.images != before.images and by_epoch(runner):
        apart.append(f"an epoch has {now.images} images and had {before.images}")
    if apart and not keep:
        fits = now.batch != before.batch and before.batch % now.processes == 0
        same = f"train_dataloader.batch_size={before.batch // now.processes} keeps the batch, " if fits else ""
        ways = "--keep-schedule goes on with the old schedule, which counts steps, and "
        raise UserError(f"{where}: {', and '.join(apart)}; {same}{ways}{NEW_RUN.format(runner.cfg.load_from)}")
    if apart:
        say_note(f"{', and '.join(apart)}; the schedule still counts the steps of before")
    elif now.images != before.images:
        say_note(f"{where}: there are {now.images} training images, and there were {before.images}")
    elif now.sha256 != before.sha256:
        say_note(f"{where}: the training data have other files, annotations or classes than before")
    if now.processes != before.processes:
        say_note(f"{where}: the number of processes is {now.processes} and was {before.processes}; same next image")
