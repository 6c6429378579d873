"""The workers of a run's loaders: they leave signals to the process that started them, and end with the run."""

import atexit
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable, Iterable
from multiprocessing.context import ForkProcess
from types import FrameType

from torch.utils.data import DataLoader

from engine.processes import end_with_parent
from engine.work_dir import leave_locks

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # also when sent to all processes of a run


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
        if isinstance(multiprocessing.current_process(), ForkProcess) and parent.pid != os.getppid():
            os._exit(1)
        for number in IGNORED:
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
