"""The log file of a run: what libraries print and warn goes there. Lines are lost where the disk fails."""

import contextlib
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator

from mmengine.runner import Runner

from ziggurat.engine.console import library_warnings_to
from ziggurat.engine.disk_faults import dispensable


@contextlib.contextmanager
def prints_to_log(runner: Runner) -> Iterator[None]:
    """Sends what libraries print inside the block to the run's log file. Our own notes go to stderr.

    That is prints, warnings, and the tracebacks of threads that fail, such as TensorBoard's.
    """
    path = runner.logger.log_file if runner.rank == 0 else os.devnull

    def trace(args: threading.ExceptHookArgs) -> None:
        traceback.print_exception(args.exc_type, args.exc_value, args.exc_traceback, file=file)

    before = threading.excepthook
    with LogText(path) as file, contextlib.redirect_stdout(file), library_warnings_to(file):
        threading.excepthook = trace
        try:
            yield
        finally:
            threading.excepthook = before


class LogText(io.TextIOBase):
    """A text file for prints, which are lost where the disk fails.

    Args:
        path: the file, to which prints are appended.
    """

    def __init__(self, path: str):
        self.path, self.file = path, None
        with self.dispensable():
            self.file = open(path, "a", buffering=1)  # noqa: SIM115  closed by close

    def dispensable(self) -> contextlib.AbstractContextManager[None]:
        return dispensable(f"the log {self.path}")

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self.dispensable():
            if self.file is not None:
                self.file.write(text)
        return len(text)

    def flush(self) -> None:
        with self.dispensable():
            if self.file is not None and not self.file.closed:
                self.file.flush()

    def close(self) -> None:
        with self.dispensable():
            if self.file is not None:
                self.file.close()
        super().close()


def spare(handler: logging.FileHandler) -> None:
    """Lets a log file's handler lose lines where the disk fails. Python would print a traceback for each."""
    handle = handler.handleError

    def failed(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            handle(record)
            return
        with dispensable(f"the log {handler.baseFilename}"):
            raise error

    handler.handleError = failed
