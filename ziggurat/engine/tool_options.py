"""Options that several tools have."""

import argparse
import os
import re
from typing import Any

from ziggurat.engine.cli import SAFE

RUNTIMES = ("onnxruntime", "openvino")  # of backbones.export.runtimes
VIEWS = ("flip", "five", "ten")  # of a classifier with --tta


class SafeAction(argparse.Action):
    """``--safe``. The processes that a tool starts follow it, too."""

    def __call__(self, *args: Any) -> None:
        os.environ[SAFE] = "1"


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


def add_tta_option(parser: argparse.ArgumentParser) -> None:
    """``--tta``, for every tool that predicts: False, True, or a word that a task has for its views."""
    parser.add_argument(
        "--tta",
        nargs="?",
        const=True,
        default=False,
        choices=VIEWS,
        help="test-time augmentation. Detection and segmentation: the config's tta_model and tta_pipeline, without a "
        "choice. Classification: the mean over an image and its mirror image (flip, also without a choice), over its "
        "corners and centre (five), or over both (ten)",
    )


def add_runtime_option(parser: argparse.ArgumentParser) -> None:
    """``--runtime``, for tools that compute networks."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help="compute the network by ONNX Runtime or OpenVINO, on the CPU, often in less time than PyTorch. It is "
        "exported first (default: PyTorch; for an exported file its own runtime)",
    )


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """``--tile`` and ``--tile-overlap``, for every tool that predicts. :func:`given_tiles` checks them."""
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="for images larger than those of the training: overlapping tiles with sides of this length. Detection: "
        "tiles of the image, and what they show of an object is joined. Segmentation: tiles of the image after the "
        "config's resize, whose scores are averaged where they overlap, in a test as in mmseg's mode 'slide'",
    )
    parser.add_argument(
        "--tile-overlap",
        type=float,
        metavar="SHARE",
        help="the share of a tile that its neighbour also shows (default: 0.25). Objects up to this size are whole in "
        "some tile",
    )


def given_tiles(args: argparse.Namespace) -> Any:
    """The ``ziggurat.engine.tiles.Tiles`` of the options; None without them. UserError if they are not allowed."""
    from ziggurat.engine.tiles import tiles_of

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


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """``--every`` and ``--max-frames``, for tools that predict on videos."""
    parser.add_argument("--every", type=count, metavar="N", help="of a video: predict each N-th frame (default: 1)")
    parser.add_argument("--max-frames", type=count, metavar="N", help="of a video: predict so many frames at most")


def add_max_pixels_option(parser: argparse.ArgumentParser) -> None:
    """``--max-pixels``, for tools that read images. :func:`max_pixels_options` makes an option of the config of it."""
    parser.add_argument(
        "--max-pixels",
        type=count,
        metavar="N",
        help="read images of up to so many pixels (default: 179 million, a guard against small files that fill the "
        "memory)",
    )


def max_pixels_options(args: argparse.Namespace) -> list[str]:
    """``--max-pixels`` in the form of ``--cfg-options``."""
    return [] if args.max_pixels is None else [f"reading.max_pixels={args.max_pixels}"]


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
