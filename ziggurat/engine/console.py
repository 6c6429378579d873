"""What goes to the console: our notes. Warnings of libraries go elsewhere."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from mmengine.dist import is_main_process

from backbones.errors import Notice, printable


def say_note(message: object) -> None:
    """Prints ``note: ...`` on stderr, in the first process only."""
    if is_main_process():
        print(f"note: {printable(message)}", file=sys.stderr)


def plain_record(record: logging.LogRecord) -> bool:
    """A filter of a log's lines that drops none. Names in them command no terminal that shows the log."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Drops warnings and prints to stdout inside the block.

    mm's forks print remarks on import. Tools that print JSON need a clean stdout.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def library_warnings_to(file: TextIO | None) -> Iterator[None]:
    """Sends warnings inside the block to ``file``, or nowhere. A :class:`Notice` becomes a line on stderr."""

    def show(message: Warning, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        if issubclass(category, Notice):
            say_note(message)
        elif file is not None:
            file.write(warnings.formatwarning(message, category, filename, lineno))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
