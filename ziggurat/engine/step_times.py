"""Where the time of a training step goes: loader, backbone, heads, backward pass, optimiser, and the rest."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from ziggurat.engine.timing import synchronize
from ziggurat.engine.wrappers import unwrap

# Part of a step -> what it is, in the order of a step.
PARTS = {
    "loader": "waiting for the data loader",
    "preprocessing": "copying a batch to the device, normalising, padding",
    "backbone": "backbone, forward",
    "heads": "neck, heads and losses, forward",
    "heads_backward": "neck, heads and losses, backward",
    "backbone_backward": "backbone, backward",
    "optimizer": "clipping, optimiser step, zeroing gradients",
    "rest": "hooks, logging, sums of losses",
}
CLOCKS: dict[str, Callable[[], float]] = {"s": time.perf_counter, "cpu_s": time.process_time}


@HOOKS.register_module(force=True)
class StepTimes(Hook):
    """Seconds of every part of every step of a training by iterations, in a single process.

    The end of one part and the start of the next are the same moment, so the parts of a step sum up to its time.
    A backbone whose maps need no gradient has no backward pass.

    Attributes:
        steps: for each step, part -> clock -> seconds. The clock ``s`` is that on the wall. ``cpu_s`` is the time that
            all threads of this process computed; workers of a loader are other processes.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self.steps: list[dict[str, dict[str, float]]] = []
        self.now: dict[str, dict[str, float]] = {}
        self.last = dict.fromkeys(CLOCKS, 0.0)
        self.heads_begin = False

    def before_train(self, runner: Any) -> None:
        model, optim = unwrap(runner.model), runner.optim_wrapper
        self.device = next(model.parameters()).device
        loop = runner.train_loop
        loop.dataloader_iterator = self.batches(loop.dataloader_iterator)
        model.data_preprocessor.register_forward_pre_hook(lambda *_: self.ends("rest"))
        model.data_preprocessor.register_forward_hook(lambda *_: self.ends("preprocessing"))
        model.register_forward_hook(lambda *_: self.ends("heads"))
        backbone = getattr(model, "backbone", None)
        if isinstance(backbone, nn.Module):
            backbone.register_forward_pre_hook(lambda *_: self.ends("heads"))  # what precedes a backbone
            backbone.register_forward_hook(self.after_backbone)
        optim.backward = self.timed(optim.backward, "backbone_backward")
        optim.step = self.timed(optim.step, "optimizer")
        optim.zero_grad = self.timed(optim.zero_grad, "optimizer")

    def batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches of a loader. The request for a batch is the moment between two steps."""
        while True:
            if self.now:
                self.ends("rest")
                self.steps.append(self.now)
            synchronize(self.device)
            self.now = {part: dict.fromkeys(CLOCKS, 0.0) for part in PARTS}
            self.last = {clock: read() for clock, read in CLOCKS.items()}
            batch = next(batches)
            self.ends("loader")
            yield batch

    def after_train(self, runner: Any) -> None:
        self.ends("rest")
        self.steps.append(self.now)

    def ends(self, part: str) -> None:
        """Counts the time since the end of the part before as that of ``part``."""
        synchronize(self.device)
        for clock, read in CLOCKS.items():
            moment = read()
            self.now[part][clock] += moment - self.last[clock]
            self.last[clock] = moment

    def timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            self.ends("rest")
            result = call(*args, **kwargs)
            self.ends(part if self.heads_begin or part != "backbone_backward" else "heads_backward")
            return result

        return timed_call

    def after_backbone(self, backbone: nn.Module, _: Any, maps: Any) -> None:
        """Ends the backbone's part. The gradient of its last map ends the backward pass of the heads.

        PyTorch computes the gradients of the operations in the reverse order of their forward pass. So no gradient of
        the backbone is computed before the last one of the heads.
        """
        self.ends("backbone")
        self.heads_begin = False
        for one in maps if isinstance(maps, tuple | list) else [maps]:
            if isinstance(one, Tensor) and one.requires_grad:
                one.register_hook(self.enters_backbone)

    def enters_backbone(self, grad: Tensor) -> None:
        if not self.heads_begin:
            self.heads_begin = True
            self.ends("heads_backward")


def medians(steps: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Median milliseconds of each part, and of the whole step (``step``), by both clocks: ``ms`` and ``cpu_ms``."""
    found = {
        part: {
            clock.replace("s", "ms"): 1e3 * statistics.median(step[part][clock] for step in steps) for clock in CLOCKS
        }
        for part in PARTS
    }
    found["step"] = {
        clock.replace("s", "ms"): 1e3 * statistics.median(sum(step[part][clock] for part in PARTS) for step in steps)
        for clock in CLOCKS
    }
    return {part: {clock: round(value, 2) for clock, value in of.items()} for part, of in found.items()}
