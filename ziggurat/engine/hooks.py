"""Batch norm statistics in several processes, and the metrics of the trained weights beside the averaged ones."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from torch import nn

from backbones.errors import unknown
from ziggurat.engine.checkpoint_hook import SafeCheckpointHook


@HOOKS.register_module(force=True)
class BuffersHook(Hook):
    """Gives batch norm the same statistics in all processes, before a validation and before saving.

    Args:
        take: ``"mean"`` takes the mean over all processes, ``"first"`` the statistics of the first process.
    """

    def __init__(self, take: str = "mean"):
        if take not in ("mean", "first"):
            raise unknown("take of BuffersHook", take, ["mean", "first"])
        self.take = take

    def after_train_epoch(self, runner: Any) -> None:
        self.unite(runner)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if any(isinstance(hook, SafeCheckpointHook) and hook.is_due(runner) for hook in runner.hooks):
            self.unite(runner)

    def before_val_epoch(self, runner: Any) -> None:
        self.unite(runner)

    def unite(self, runner: Any) -> None:
        for model in (runner.model, *(hook.ema_model for hook in ema_hooks(runner))):
            unite_buffers(model, self.take)


def unite_buffers(model: nn.Module, take: str) -> None:
    """Gives every floating-point buffer one value in all processes. One process alone keeps its buffers."""
    if get_world_size() == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point() and buffer.numel()]
    if not buffers:
        return
    flat = torch.cat([buffer.float().flatten() for buffer in buffers])
    if take == "mean":
        all_reduce(flat, "mean")
    else:
        broadcast(flat, src=0)
    for buffer, values in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view_as(buffer))


@HOOKS.register_module(force=True)
class RawMetricsHook(Hook):
    """Beside an EMAHook: tests the trained weights too. Their metrics have ``raw_`` in front, e.g. ``raw_top1``.

    A validation then takes twice the time.
    """

    # Before EMAHook puts the averaged weights in place, and before RuntimeInfoHook hands the metrics to the loggers.
    priority = "HIGHEST"

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}

    def before_val_epoch(self, runner: Any) -> None:
        loop = runner.val_loop
        runner.model.eval()
        with torch.no_grad():
            for batch in loop.dataloader:
                loop.evaluator.process(data_samples=runner.model.val_step(batch), data_batch=batch)
        self.metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        if metrics is not None:  # later hooks log these, too
            metrics.update({f"raw_{name}": value for name, value in self.metrics.items()})


def ema_hooks(runner: Any) -> Iterator[EMAHook]:
    """The hooks of a run that average its weights."""
    return (hook for hook in runner.hooks if isinstance(hook, EMAHook))
