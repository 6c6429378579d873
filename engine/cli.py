"""The start and end of every tool: one-line errors, exit statuses, and options that several tools have."""

from engine.start import interrupts_raise

import argparse
import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from backbones.errors import Notice, UserError, printable
from backbones.files import FAULTS

CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")  # files with other suffixes are checkpoints
SAFE = "ZIGGURAT_SAFE"  # an environment variable: "1" is --safe
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
        print(f"error: {printable(user_error)}", file=sys.stderr)
        status = 2
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # as with ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for Python's own flush at the exit
        status = PIPE
    if "RANK" in os.environ:  # only a launcher starts a group; importing torch takes a second
        from engine.processes import leave_processes

        leave_processes(status or 0)
    sys.exit(status)


@contextlib.contextmanager
def plain_notices() -> Iterator[None]:
    """A block in which a :class:`Notice` is printed as one line, and other warnings with their place in the code."""
    formatted = warnings.formatwarning

    def one_line(message: Any, category: type[Warning], *place: Any) -> str:
        return f"note: {message}\n" if issubclass(category, Notice) else formatted(message, category, *place)

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


class SafeAction(argparse.Action):
    """``--safe``. The processes that a tool starts follow it, too."""

    def __call__(self, *args: Any) -> None:
        os.environ[SAFE] = "1"


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
    return ": ".join(str(part) for part in (error.filename, error.strerror) if part)


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
    return path


class Parser(argparse.ArgumentParser):
    """An argument parser with errors like the tools' other errors: one line, exit status 2.

    ``~`` at the start of a path is the user's home, as in ``--out=~/results`` and ``data_root=~/data``, where the shell
    leaves it.
    """

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args([HOME.sub(in_home, str(arg)) for arg in args], namespace)

    def error(self, message: str) -> None:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def in_home(found: re.Match) -> str:
    return (found[1] or "") + os.path.expanduser("~")


def count(text: str) -> int:
    """The type of an option: integers from 1."""
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: integers from 1")
    return int(text)


def height_and_width(text: str) -> tuple[int, int]:
    """The type of an option: height and width in pixels, such as 800x1344."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: height and width in pixels, such as 224x224")
    height, width = text.split("x")
    return int(height), int(width)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options that training and testing have in common."""
    parser.add_argument("--work-dir", metavar="DIR", help="the run's folder; default: work_dirs/<config name>")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none", help=argparse.SUPPRESS)
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    add_config_options(parser)


def add_amp_option(parser: argparse.ArgumentParser) -> None:
    """``--amp``, for every tool that trains."""
    parser.add_argument(
        "--amp",
        nargs="?",
        const="bfloat16",
        default=False,
        metavar="TYPE",
        help="train in mixed precision: bfloat16 (default), or float16 with a scaled loss, on a GPU",
    )


def add_track_option(parser: argparse.ArgumentParser) -> None:
    """``--track``, for every tool that trains. :func:`track_options` makes an option of the config of it."""
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        choices=["wandb", "mlflow"],
        help="send the curves to Weights & Biases or MLflow too; TensorBoard's files and JSON lines are always written",
    )


def track_options(args: argparse.Namespace) -> list[str]:
    """``--track`` in the form of ``--cfg-options``."""
    return [f"track=[{','.join(args.track)}]"] if args.track else []


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """``--tile`` and ``--tile-overlap``, for every tool that predicts. :func:`given_tiles` checks them."""
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="for images larger than those of the training: overlapping tiles with sides of this length. Detection: "
        "tiles of the image, and what they show of an object is joined. Segmentation: tiles of the image after the "
        "config's resize, and scores are averaged where they overlap (mmseg's mode 'slide')",
    )
    parser.add_argument(
        "--tile-overlap",
        type=float,
        metavar="SHARE",
        help="the share of a tile that its neighbour also shows (default: 0.25). Objects up to this size are whole in "
        "some tile",
    )


def given_tiles(args: argparse.Namespace) -> Any:
    """The ``engine.tiles.Tiles`` of the options; None without them. UserError if they are not allowed."""
    from engine.tiles import tiles_of

    if args.tile is None and args.tile_overlap is None:
        return None
    return tiles_of(args.tile, args.tile_overlap, ("--tile", "--tile-overlap"))


def add_download_option(parser: argparse.ArgumentParser) -> None:
    """``--download``, for every tool that reads images."""
    parser.add_argument(
        "--download",
        metavar="FOLDER",
        help="images may also be addresses of https; they are downloaded into this folder, each once",
    )


def add_safe_option(parser: argparse.ArgumentParser) -> None:
    """``--safe``, for every tool that reads a config."""
    parser.add_argument(
        "--safe",
        nargs=0,
        action=SafeAction,
        help="for a config of somebody else: read it as data, and refuse one that would run code",
    )


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """``--data``, for every tool that reads the data of a config. :func:`data_options` makes options of it."""
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="data in place of the config's, in any format that is known: short for data_root=FOLDER data_format=auto",
    )


def data_options(args: argparse.Namespace) -> list[str]:
    """``--data`` in the form of ``--cfg-options``. A ``data_format`` among these stays."""
    if args.data is None:
        return []
    named = any(option.startswith("data_format=") for option in args.cfg_options)
    return [f"data_root={args.data}", *([] if named else ["data_format=auto"])]


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options`` and ``--safe``, for every tool that reads a config."""
    add_safe_option(parser)
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change the config, e.g. data_root=/data/imagenet train_dataloader.batch_size=32 model.head.norm=None",
    )
