"""Writing the checkpoints of a run while its training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from backbones.errors import UserError


class Writer:
    """A thread that does one job after another, such as writing a checkpoint and then removing an older one.

    Example::

        with Writer() as writer:
            writer.submit(save_safely, content, path)
            ...
            writer.join()
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self.jobs: list[Future[Any]] = []

    def submit(self, job: Callable[..., Any], *args: Any) -> None:
        """Puts a job behind the earlier ones. A job after one that failed is not done."""
        self.jobs.append(self.thread.submit(self.unless_failed, list(self.jobs), job, *args))

    @staticmethod
    def unless_failed(earlier: list[Future[Any]], job: Callable[..., Any], *args: Any) -> None:
        if not any(done.exception() for done in earlier):
            job(*args)

    def has_failed(self) -> bool:
        """Whether a job failed since the last :meth:`join`. Does not wait."""
        return any(job.done() and job.exception() for job in self.jobs)

    def join(self) -> None:
        """Waits until all jobs are done.

        Raises:
            UserError: a file could not be written.
            Exception: any other error of a job.
        """
        jobs, self.jobs = self.jobs, []
        failed = next((error for job in jobs if (error := job.exception())), None)
        if isinstance(failed, OSError):
            name = failed.filename or "a checkpoint"
            raise UserError(f"{name} could not be written: {failed.strerror or failed}; earlier checkpoints are kept")
        if failed is not None:
            raise failed

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Joins. An error that ends the block counts more than one of a job."""
        try:
            self.join()
        except Exception:
            if error is None:
                raise
        finally:
            self.thread.shutdown()


def later(runner: Any, job: Callable[..., Any], *args: Any) -> None:
    """Does a job after those before it: in a training of ``SafeRunner`` without waiting for it, else at once.

    mmengine's own Runner, which may run a dumped config, has no writer.
    """
    writer = getattr(runner, "writer", None)
    if writer is None:
        job(*args)
    else:
        writer.submit(job, *args)


def saving_failed(runner: Any) -> bool:
    """Whether a job of :func:`later` failed, which :func:`finish_saving` then tells."""
    writer = getattr(runner, "writer", None)
    return writer is not None and writer.has_failed()


def finish_saving(runner: Any) -> None:
    """Waits until the jobs of :func:`later` are done. Raises UserError if a file could not be written."""
    if writer := getattr(runner, "writer", None):
        writer.join()


def copied(value: Any, copies: dict[Any, Tensor] | None = None) -> Any:
    """A copy in host memory, which later steps of the training do not change. What shares memory still does."""
    copies = {} if copies is None else copies
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() == 0 or key not in copies:
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]
    if isinstance(value, dict):
        return {name: copied(part, copies) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(part, copies) for part in value)
    return value
