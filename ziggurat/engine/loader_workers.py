"""The workers of a run's loaders: they leave signals to the process that started them, and end with the run."""

import atexit
import contextlib
import errno
import multiprocessing
import os
import re
import shutil
import signal
import weakref
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import ForkServerProcess
from types import FrameType

from torch.utils.data import DataLoader

from backbones.errors import UserError
from ziggurat.engine.processes import end_with_parent
from ziggurat.engine.signals import STOPPING
from ziggurat.engine.work_dir import leave_locks

SHARED = "/dev/shm"  # where workers put their batches
LEAST = 64  # KiB of shared memory without which Python has no place for its semaphores


class WorkerStart:
    """The start of a loader's workers, as its ``worker_init_fn``.

    A worker takes no part in signals and in the lock of the work dir. When the process that started it is killed, the
    lock is free at once. On Linux the worker then ends at once, too. PyTorch's own worker looks every 5 s, and never
    ends if the process was killed before the worker began.

    Args:
        loader: the loader. Its own ``worker_init_fn`` is called, too.
    """

    def __init__(self, loader: DataLoader):
        self.then: Callable[[int], None] | None = loader.worker_init_fn
        # Shared with the workers: their process ids, and whether SIGTERM ends them.
        self.processes = multiprocessing.RawArray("i", max(loader.num_workers, 1))
        self.leaving = multiprocessing.RawValue("b", 0)
        STARTS.add(self)

    def __call__(self, worker: int) -> None:
        self.processes[worker] = os.getpid()
        end_with_parent(signal.SIGKILL)
        parent = multiprocessing.parent_process()
        served = isinstance(multiprocessing.current_process(), ForkServerProcess)  # the parent is then the server
        served = served or multiprocessing.get_start_method() == "forkserver"
        if not served and parent.pid != os.getppid():
            os._exit(1)
        for number in STOPPING:  # they may be sent to all processes of a run
            signal.signal(number, self.leave_if_told)
        leave_locks()
        if self.then is not None:
            self.then(worker)

    def leave_if_told(self, number: int, frame: FrameType | None) -> None:
        if self.leaving.value:
            os._exit(0)

    def end(self) -> None:
        """Ends the workers that are still there."""
        self.leaving.value = 1
        for process in multiprocessing.active_children():
            if process.pid in self.processes:
                process.terminate()


@contextlib.contextmanager
def workers_explained() -> Iterator[None]:
    """Turns the death of a worker into a UserError that says what it may come from.

    Raises:
        UserError: a worker was killed, or has no place in shared memory.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not (fault := fault_of_workers(error)):
            raise
        raise UserError(f"{fault}; --resume goes on from the last checkpoint, if one was saved") from error


def fault_of_workers(error: Exception) -> str:
    """What happened to the workers of a loader, and what to do about it; "" for an error that has another cause."""
    message = " ".join(" ".join(map(str, causes_of(error))).split())
    free = shutil.disk_usage(SHARED).free >> 10 if os.path.isdir(SHARED) else 0
    no_semaphore = getattr(error, "errno", None) == errno.ENOSPC and not error.filename and free < LEAST
    if no_semaphore or ("torch_" in message and "unable to" in message) or "killed by signal: Bus error" in message:
        return (
            f"shared memory is too small for the workers of a data loader ({SHARED} has {free} KiB left); lower "
            "num_workers, or enlarge it, as docker run --shm-size does"
        )
    if "DataLoader worker" in message and "killed by signal: Killed" in message:
        return "a worker of a data loader was killed, as happens when memory is used up; lower num_workers"
    if ended := re.search(r"DataLoader worker .*?(killed by signal: [\w ]+|exited unexpectedly)", message):
        return f"a worker of a data loader ended ({ended[1].strip()}); num_workers=0 shows the cause"
    return ""


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error that an error was raised from, and so on; the error itself comes last.

    PyTorch's handler of SIGCHLD raises an error that names the signal. Within a wait for data, PyTorch takes that
    error for a fault of the wait, and raises one from it that names no signal.
    """
    if error is not None:
        yield from causes_of(error.__cause__)
        yield error


STARTS: weakref.WeakSet[WorkerStart] = weakref.WeakSet()


@atexit.register
def end_all() -> None:
    """Ends the workers of all loaders. At its exit Python waits for them."""
    for start in STARTS:
        start.end()


def end_loaders(loaders: Iterable[DataLoader], lost: bool = False) -> None:
    """Ends the workers that loaders keep for a next epoch. Else they live until Python collects the loaders.

    Args:
        loaders: those of a run.
        lost: whether an error left the loaders within an epoch. PyTorch would wait 5 s for each of their workers.
    """
    for loader in loaders:
        iterator = getattr(loader, "_iterator", None)
        if lost and isinstance(loader.worker_init_fn, WorkerStart):
            loader.worker_init_fn.end()
        elif iterator is not None:
            iterator._shutdown_workers()
            loader._iterator = None
