"""Batch norm statistics in several processes."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from engine.checkpoints import SafeCheckpointHook


@HOOKS.register_module(force=True)
class AverageBuffersHook(Hook):
    """Replaces batch norm statistics by their mean over all processes, before a validation and before saving."""

    def after_train_epoch(self, runner: Any) -> None:
        average_buffers(runner.model)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if any(isinstance(hook, SafeCheckpointHook) and hook.is_due(runner) for hook in runner.hooks):
            average_buffers(runner.model)

    def before_val_epoch(self, runner: Any) -> None:
        average_buffers(runner.model)


def average_buffers(model: nn.Module) -> None:
    """Replaces every floating-point buffer by its mean over all processes. One process alone keeps its buffers."""
    if get_world_size() == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point() and buffer.numel()]
    if not buffers:
        return
    flat = torch.cat([buffer.float().flatten() for buffer in buffers])
    all_reduce(flat, "mean")
    for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))
