"""Signals that end a training: the step in progress is finished, a checkpoint is saved, and the process ends.

Slurm sends SIGTERM before it takes a machine away, or another signal some time before (``sbatch --signal=USR1@120``).
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from torch import distributed

from ziggurat.engine.accumulation import is_whole_step
from ziggurat.engine.checkpoint_hook import SafeCheckpointHook
from ziggurat.engine.console import say_note
from ziggurat.engine.hooks import BuffersHook
from ziggurat.engine.saving import finish_saving
from ziggurat.engine.validation_due import VALIDATION_DUE

TWICE = 2.0  # seconds
GRACE = 5.0  # seconds from the end of one process of a group until the launcher signals the others
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


ASKED = "the run saves a checkpoint after this step, if it can, and ends; again ends it now"


class Stopped(SystemExit):
    """Ends a process with the status that a shell gives to one that the signal ended: 143 for SIGTERM, 130 for SIGINT.

    Attributes:
        signal: the signal's number.
        fault: why no checkpoint could be saved; "" where one was.
    """

    def __init__(self, number: int, fault: str = ""):
        super().__init__(128 + number)
        self.signal, self.fault = number, fault


class Request:
    """The signal that asks this process to stop. A later one ends the process at once.

    Slurm signals the launcher and its processes, and the launcher passes its signal on. So what comes within ``TWICE``
    seconds counts as one signal.

    Args:
        said: what the first signal does, for the note about it.
    """

    def __init__(self, said: str = ASKED) -> None:
        self.number, self.time, self.said = 0, 0.0, said

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number and time.monotonic() - self.time < TWICE:
            return
        if self.number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number, self.time = number, time.monotonic()
        if is_main_process():  # written at once: a print may have been interrupted, and takes no second one
            os.write(2, f"note: {signal.Signals(number).name}: {self.said}\n".encode())

    def wait(self, seconds: float) -> None:
        """Waits until a signal comes, at most so long."""
        ends = time.monotonic() + seconds
        while not self.number and time.monotonic() < ends:
            time.sleep(0.05)


@contextlib.contextmanager
def caught(said: str = ASKED) -> Iterator[Request]:
    """Lets signals ask for a stop inside the block. ``said`` is as for :class:`Request`.

    A signal that is ignored stays so, as SIGHUP under ``nohup``. Outside the main thread Python cannot catch any.
    """
    request = Request(said)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    ignored = (signal.SIG_IGN, None)  # None: not set by Python, which could not restore such a handler
    before = {number: signal.getsignal(number) for number in STOPPING if signal.getsignal(number) not in ignored}
    try:
        for number in before:
            signal.signal(number, request)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@HOOKS.register_module(force=True)
class StopHook(Hook):
    """Looks after every step whether a signal came to any process; all of them then save and end together.

    A validation in progress is left, and the resumed run begins with that validation. Checkpoints that are due by the
    clock are saved here too, since all processes have to agree.
    """

    priority = "LOWEST"  # after the checkpoint of the step, if one is due

    def __init__(self) -> None:
        self.request: Request | None = None  # while a training runs
        self.group: Any = None  # of processes that tell each other on the CPU, without waiting for a GPU

    def before_train(self, runner: Any) -> None:
        self.request = getattr(runner, "request", None)  # mmengine's own Runner has none
        if runner.distributed and self.group is None:
            self.group = distributed.new_group(backend="gloo")
        if runner.message_hub.runtime_info.get(VALIDATION_DUE) and runner.val_loop is not None:
            runner.val_loop.run()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if is_whole_step(runner):  # where it is not, several processes lack gradients in their checkpoint
            self.poll(runner, runner.iter + 1)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.request is not None:  # in a training
            self.poll(runner, runner.iter, validation_cut=True)

    def poll(self, runner: Any, finished: int, validation_cut: bool = False) -> None:
        saving = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        timed = any(hook.is_time() for hook in saving) and is_main_process() and not validation_cut
        asked = torch.tensor([self.request.number if self.request else 0, int(timed)])
        if self.group is not None:
            distributed.all_reduce(asked, distributed.ReduceOp.MAX, group=self.group)
        number, timed = asked.tolist()
        if not (number or timed):
            return
        if validation_cut:
            runner.message_hub.update_info(VALIDATION_DUE, True)
        for hook in runner.hooks if validation_cut else ():
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(runner)  # puts the trained weights back in place
        for hook in runner.hooks:
            if isinstance(hook, BuffersHook):
                hook.unite(runner)
        for hook in saving:
            hook.save_between(runner, finished)
        if not number:
            return
        finish_saving(runner)
        if self.group is not None:
            distributed.barrier(self.group)  # the launcher ends all processes once the first has ended
        if saving:
            say_note(f"saved after iteration {finished}; --resume goes on from there")
        else:
            say_note("the config has no checkpoint hook, so nothing is saved")
        raise Stopped(number)


def requeue_job() -> None:
    """Asks Slurm, in the first process, to queue this job again. Outside Slurm a note says that there is no job."""
    job = os.environ.get("SLURM_JOB_ID")
    if int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0):
        return
    if not job:
        say_note("--requeue: SLURM_JOB_ID is not set, so there is no job to queue again")
        return
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    say_note(f"job {job} is queued again" if done.returncode == 0 else f"scontrol requeue {job}: {done.stderr.strip()}")
