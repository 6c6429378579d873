"""What follows from the number of images per optimiser step: the learning rate, and the counts of steps in a config."""

from typing import Any

from backbones.errors import UserError
from ziggurat.engine.console import say_note

RISING = ("LinearLR", "ConstantLR")  # schedules of a warmup


def follow_accumulation(cfg: Any) -> None:
    """Tells schedules and averages of weights that count optimiser steps how many batches a step has, in place.

    ``optim_wrapper.accumulative_counts`` is the number. mmengine counts batches.
    """
    count = (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    schedules = cfg.get("param_scheduler") or []
    for part in schedules if isinstance(schedules, list | tuple) else [schedules]:
        if part.get("type") == "StepCosineLR" and (count > 1 or "accumulative_counts" in part):
            part["accumulative_counts"] = count
    for hook in cfg.get("custom_hooks") or []:
        if hook.get("type") == "EMAHook" and (count > 1 or "interval" in hook):
            hook["interval"] = count


def scale_rate(runner: Any) -> None:
    """Scales the configured learning rate to the images per optimiser step, if ``auto_scale_lr.enable`` is set.

    The images per step are those of a batch, times the processes, times the batches that a step accumulates. mmengine's
    ``scale_lr`` leaves accumulation out. The configured rate belongs to ``auto_scale_lr.base_batch_size`` images.

    Raises:
        UserError: ``base_batch_size`` is not an integer from 1 up, or the config has no ``optimizer.lr``.
    """
    rule, runner.auto_scale_lr = runner.auto_scale_lr or {}, None  # train() would scale a second time
    if not rule.get("enable", False):
        return
    base = rule.get("base_batch_size")
    if isinstance(base, bool) or not isinstance(base, int) or base < 1:
        raise UserError(f"auto_scale_lr.base_batch_size is {base!r}; allowed: integers from 1 up")
    optimizer = (runner.optim_wrapper or {}).get("optimizer") or {}
    if "lr" not in optimizer:
        raise UserError("auto_scale_lr needs optim_wrapper.optimizer.lr; give it, or set auto_scale_lr.enable=False")
    if not isinstance(optimizer["lr"], int | float):
        return  # building the optimiser says what is allowed
    images = runner.cfg.train_dataloader.batch_size * runner.world_size
    images *= runner.optim_wrapper.get("accumulative_counts", 1)
    if images != base:
        lr = optimizer["lr"]
        optimizer["lr"] = lr * images / base
        if not runner.cfg.get("resume"):  # the checkpoint's optimiser has its own rate
            say_note(f"lr {lr:g} x {images}/{base} images per step = {optimizer['lr']:.3g}")


def note_short_run(cfg: Any) -> None:
    """Says where a run of epochs ends before its schedule does, at a rate that is still high, or goes on after it."""
    last = (cfg.get("train_cfg") or {}).get("max_epochs")
    schedule = cfg.get("param_scheduler")
    falling = [part for part in schedule if part.get("type") not in RISING] if isinstance(schedule, list) else []
    ends = [part.get("end") for part in falling if part.get("by_epoch", True)]
    if isinstance(last, int) and ends and all(isinstance(end, int) for end in ends) and max(ends) < last:
        say_note(f"the run has {last} epochs, and its schedule ends after {max(ends)}; the last rate then stays")
    epochs = schedule.get("epochs") if isinstance(schedule, dict) else None
    if isinstance(last, int) and isinstance(epochs, int) and last < epochs:
        say_note(f"the run ends after {last} of the {epochs} epochs of its schedule; set param_scheduler.epochs={last}")
