"""Optimiser steps of several batches: the gradients that such a step has gathered so far are part of a checkpoint."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from ziggurat.engine.console import say_note
from ziggurat.engine.wrappers import unwrap


def is_whole_step(runner: Any) -> bool:
    """Whether the last batch ended an optimiser step. See ``optim_wrapper.accumulative_counts``."""
    wrapper = runner.optim_wrapper
    return all(one.should_update() for one in (wrapper.values() if hasattr(wrapper, "values") else [wrapper]))


@HOOKS.register_module(force=True)
class GradientsHook(Hook):
    """Saves and resumes the gradients of a step that lacks some of its batches.

    Several processes add up their gradients at the last batch of a step only. The first process, which saves, does not
    know the others' before that. A note then says that they are lost.
    """

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}  # of the resumed checkpoint
        self.said = False

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if is_whole_step(runner):
            return
        if runner.distributed:
            if not self.said:
                say_note(
                    "checkpoints come within a step of several batches, whose gradients they lack in several "
                    "processes; let their interval be a multiple of optim_wrapper.accumulative_counts"
                )
            self.said = True
            return
        named = unwrap(runner.model).named_parameters()
        checkpoint["gradients"] = {name: value.grad for name, value in named if value.grad is not None}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if runner.cfg.get("resume"):
            self.gradients = checkpoint.get("gradients") or {}

    def before_train(self, runner: Any) -> None:
        for name, value in unwrap(runner.model).named_parameters():
            if (gradient := self.gradients.get(name)) is not None:
                value.grad = gradient.to(value.device, copy=True)
        self.gradients = {}
