"""The start and end of every tool: one-line errors, exit statuses, and the parser of its arguments."""

from ziggurat.engine.start import CALLED, interrupts_raise

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import Notice, UserError, printable
from backbones.files import FAULTS, SAFE
from ziggurat.command import as_called

CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")  # files with other suffixes are checkpoints
WEIGHT_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".safetensors")
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # PyTorch's own
HOME = re.compile(r"^([-\w.]+=)?~(?=/|$)")  # the user's home, as an argument or the value of an option
PIPE = 141  # the status of a program whose reader has gone
HEAD_START = 2.0  # seconds that other processes wait, so process 0 prints an error first and the launcher ends them


def run_tool(main: Callable[[], int | None]) -> None:
    """Runs a tool's ``main`` and exits: 0 or what it returns, 2 after a UserError (one line), 130 after Ctrl-C.

    A fault of the machine, such as a full disk, is one line, too. A training that a signal ended exits with 128 and the
    signal's number.
    """
    interrupts_raise()
    if getattr(sys.stdout, "errors", "") == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file may be no text
    try:
        with guarded(), plain_notices():
            status = main()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        status = 130
    except SystemExit as stop:
        status = stop.code
    except BrokenPipeError:
        status = PIPE
    except Exception as error:
        user_error = find_user_error(error) or fault_of_machine(error)
        if user_error is None:
            raise
        if int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0):
            time.sleep(HEAD_START)
        print(f"error: {said_to_user(printable(user_error))}", file=sys.stderr)
        status = 2
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own flush at the exit
        status = PIPE
    if "RANK" in os.environ:  # only a launcher starts a group; importing torch takes a second
        from ziggurat.engine.processes import leave_processes

        leave_processes(status or 0)
    sys.exit(status)


@contextlib.contextmanager
def plain_notices() -> Iterator[None]:
    """A block in which a :class:`Notice` is printed as one line, and other warnings with their place in the code."""
    formatted = warnings.formatwarning

    def one_line(message: Any, category: type[Warning], *place: Any) -> str:
        if issubclass(category, Notice):
            return f"note: {said_to_user(str(message))}\n"
        return formatted(message, category, *place)

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = formatted


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A block in which every ``torch.load``, that of a library too, refuses a file that asks for code.

    What the block sets for ``--safe`` ends with it.
    """
    before = {name: os.environ.get(name) for name in (WEIGHTS_ONLY, SAFE)}
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def is_safe() -> bool:
    """Whether configs are read as data."""
    return os.environ.get(SAFE) == "1"


def find_user_error(error: BaseException | None) -> str | None:
    """The message of a UserError: ``error`` itself, or the one that ``error`` was raised from. None if there is none.

    The UserError may come from a worker of a data loader. An error that happens while a UserError is handled, without
    ``from``, is a fault of ours and gives None.
    """
    while error is not None:
        if isinstance(error, UserError):
            return last_line(str(error))
        error = error.__cause__
    return None


def fault_of_machine(error: BaseException) -> str | None:
    """A fault of a disk, or of limits of the system, on one line. None for any other error."""
    if not isinstance(error, OSError) or error.errno not in FAULTS:
        return None
    return ": ".join(str(part) for part in (error.filename2 or error.filename, error.strerror) if part)


def last_line(message: str) -> str:
    """A message on one line. The exception of a worker has the worker's traceback as text: its last line is taken."""
    if "Traceback (most recent call last)" in message:
        message = re.sub(r"^backbones\.errors\.\w+: ", "", message.strip().splitlines()[-1])
    return " ".join(message.split())


def output_folder(path: str | Path, option: str = "--out") -> Path:
    """The folder, which is made if it is missing; UserError if nothing can be written there."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}; allowed: a folder that can be written") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: no permission to write there; allowed: a folder that can be written")
    try:
        tempfile.TemporaryFile(dir=path).close()  # as in /proc, where permissions promise what the kernel refuses
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}; allowed: a folder that can be written") from None
    return path


class Parser(argparse.ArgumentParser):
    """An argument parser with errors like the tools' other errors: one line, exit status 2.

    ``~`` at the start of a path is the user's home, as in ``--out=~/results`` and ``data_root=~/data``, where the shell
    leaves it.
    """

    def __init__(self, **options: Any):
        super().__init__(**({"prog": CALLED} | options))

    def format_help(self) -> str:
        return said_to_user(super().format_help())

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args([HOME.sub(in_home, str(arg)) for arg in args], namespace)

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def said_to_user(text: str) -> str:
    """A text that names tools, by the names under which the user calls them: ``ziggurat train`` or tools/train.py."""
    return as_called(text) if CALLED else text


def in_home(found: re.Match) -> str:
    return (found[1] or "") + os.path.expanduser("~")
