"""Learning rates over a training, exactly as the authors of published recipes set them.

mmengine's LinearLR and CosineAnnealingLR can be chained to nearly the same curves. They differ in where the warm-up
ends, in where the cosine begins, and after its end.
"""

import math
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

from backbones.errors import UserError


class CosineLR(_ParamScheduler):
    """A warm-up and a cosine; a subclass says at which rate each epoch or step runs.

    The rates of a schedule are those of the optimiser's ``lr``. A group with a part of ``lr``, as layer decay makes it,
    gets the same part of every rate.

    Args:
        optimizer: the optimiser's wrapper.
        end: not used. mmengine's runner gives every schedule the number of the training's epochs as its end, also one
            that counts iterations. The lengths of the subclass say where its curve ends.
        **kwargs: arguments of mmengine's schedules.
    """

    def __init__(self, optimizer: OptimWrapper, end: int | None = None, **kwargs: Any):
        self.lr = getattr(optimizer, "optimizer", optimizer).defaults["lr"]
        super().__init__(optimizer, "lr", **kwargs)

    def rate(self, position: int) -> float:
        """The rate of an epoch or step, from 0."""
        raise NotImplementedError

    def _get_value(self) -> list[float]:
        part = self.rate(self.last_step) / self.lr if self.lr else 0.0
        return [base * part for base in self.base_values]


@PARAM_SCHEDULERS.register_module(force=True)
class EpochCosineLR(CosineLR):
    """One rate for each epoch, as timm's ``CosineLRScheduler`` and ``train.py`` set it.

    In the warm-up, epoch ``t`` runs at ``warmup_lr + t * (lr - warmup_lr) / warmup``. The cosine counts from epoch 0,
    so the warm-up cuts off its beginning: ``eta_min + (lr - eta_min) * (1 + cos(pi * t / epochs)) / 2``. Epochs from
    ``epochs`` on, timm's cool-down, run at ``eta_min``.

    Args:
        optimizer: the optimiser's wrapper; its ``lr`` is the highest rate.
        epochs: the length of the cosine, 1 or more.
        warmup: epochs of warm-up, 0 to ``epochs``.
        warmup_lr: the rate of the first epoch. A rate above ``lr`` is taken as ``lr``.
        eta_min: the rate at the end of the cosine. A rate above ``lr`` is taken as ``lr``.
        lag: the number of epochs by which the rates come late. The first epochs all run at the first rate.

    Source: huggingface/pytorch-image-models, timm/scheduler/cosine_lr.py.
    """

    def __init__(
        self,
        optimizer: OptimWrapper,
        epochs: int,
        warmup: int = 0,
        warmup_lr: float = 0.0,
        eta_min: float = 0.0,
        lag: int = 0,
        **kwargs: Any,
    ):
        check_lengths("EpochCosineLR", epochs, warmup)
        self.epochs, self.warmup, self.lag = epochs, warmup, lag
        self.warmup_lr, self.eta_min = warmup_lr, eta_min
        super().__init__(optimizer, by_epoch=True, **kwargs)

    def rate(self, position: int) -> float:
        epoch = max(position - self.lag, 0)
        if epoch < self.warmup:
            start = min(self.warmup_lr, self.lr)
            return start + epoch * (self.lr - start) / self.warmup
        return cosine(self.lr, min(self.eta_min, self.lr), epoch, self.epochs)


@PARAM_SCHEDULERS.register_module(force=True)
class StepCosineLR(CosineLR):
    """One rate for each optimiser step, as ConvNeXt's ``cosine_scheduler`` sets it; HorNet and VAN-22k use its trainer.

    The warm-up rises from 0 in the first step to ``lr`` in its last step. The cosine begins after the warm-up, and its
    last step is one step short of ``eta_min``.

    In a config, ``epochs`` and ``warmup_epochs`` give the lengths, with ``convert_to_iter_based=True``.

    Args:
        optimizer: the optimiser's wrapper; its ``lr`` is the highest rate.
        steps: optimiser steps of the training, 1 or more.
        warmup: optimiser steps of warm-up, 0 to ``steps``.
        eta_min: the rate that the cosine tends to. A rate above ``lr`` is taken as ``lr``.
        accumulative_counts: batches per optimiser step. ``ziggurat.engine.complete`` copies that of ``optim_wrapper``.

    Source: facebookresearch/ConvNeXt, utils.py; raoyongming/HorNet@ac9e210, utils.py.
    """

    def __init__(
        self,
        optimizer: OptimWrapper,
        steps: int,
        warmup: int = 0,
        eta_min: float = 0.0,
        accumulative_counts: int = 1,
        **kwargs: Any,
    ):
        check_lengths("StepCosineLR", steps, warmup)
        self.steps, self.warmup, self.eta_min = steps, warmup, eta_min
        self.accumulative_counts = accumulative_counts
        super().__init__(optimizer, by_epoch=False, **kwargs)

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: OptimWrapper,
        epoch_length: int,
        epochs: int,
        warmup_epochs: int = 0,
        accumulative_counts: int = 1,
        **kwargs: Any,
    ) -> "StepCosineLR":
        """A schedule whose lengths are given in epochs of ``epoch_length`` batches."""
        kwargs.pop("by_epoch", None)
        length = max(epoch_length // accumulative_counts, 1)
        return cls(
            optimizer,
            steps=epochs * length,
            warmup=warmup_epochs * length,
            accumulative_counts=accumulative_counts,
            **kwargs,
        )

    def rate(self, position: int) -> float:
        step = position // self.accumulative_counts
        if step < self.warmup:
            return self.lr * step / max(self.warmup - 1, 1)
        return cosine(self.lr, min(self.eta_min, self.lr), step - self.warmup, self.steps - self.warmup)


def cosine(high: float, low: float, position: int, length: int) -> float:
    """Half a cosine from ``high`` at 0 to ``low`` at ``length``, and ``low`` from there on."""
    if position >= length:
        return low
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * position / length))


def check_lengths(name: str, total: Any, warmup: Any) -> None:
    """Raises UserError unless ``total`` is an integer from 1 up, and ``warmup`` an integer from 0 to ``total``."""
    if not isinstance(total, int) or not isinstance(warmup, int) or not 0 <= warmup <= total or total < 1:
        raise UserError(f"{name} over {total!r} with a warm-up of {warmup!r}; allowed: integers, 0 <= warm-up <= total")
