"""Imports without the remarks that mm's forks print about parts of theirs that nobody asked for."""

import contextlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Swallows what is printed to stdout, and warnings, inside the block. Tools that print JSON depend on it."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
