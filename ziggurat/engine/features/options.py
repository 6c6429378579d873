"""The options of ``tools/extract_features.py`` that concern a store, and their types."""

import argparse
import os
import re
import sys
from typing import Any

from backbones.errors import UserError
from backbones.pooling import pool_of
from backbones.store.writer import DTYPES
from ziggurat.engine.tool_options import count

ONLY_STORE = ("pool", "save_dtype", "shard_size", "batch_size", "workers", "ray_address", "ray_workers")


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``--form store``."""
    store = parser.add_argument_group("with --form store")
    store.add_argument(
        "--pool",
        type=pool_name,
        metavar="mean|gem|grid:K",
        help="save one vector of each map, or a grid of K x K vectors (default: the whole maps)",
    )
    store.add_argument("--save-dtype", choices=DTYPES, help="type of the saved features (default: that of --dtype)")
    store.add_argument(
        "--shard-size",
        type=shard_size,
        metavar="IMAGES|MB",
        help="write a shard after so many images, such as 10000, or so much, such as 512MB (default: after 4096 images "
        "or 256MB)",
    )
    store.add_argument(
        "--batch-size", type=count, metavar="N", help="images at a time (default: 32, and fewer of large images)"
    )
    store.add_argument(
        "--workers", type=workers, metavar="N", help="processes that read images, 0 or more (default: up to 4)"
    )
    store.add_argument(
        "--engine",
        choices=["plain", "ray"],
        default="plain",
        help="plain: this process, or those of ziggurat launch (default). ray: actors of Ray Data",
    )
    store.add_argument(
        "--ray-address", metavar="ADDRESS", help="a cluster of Ray, or auto (default: a Ray on this machine alone)"
    )
    store.add_argument(
        "--ray-workers", type=count, metavar="N", help="number of actors (default: as many as GPUs, or cores)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there; of a store, remove the features it has"
    )
    # torchrun says by its variables that it runs; with Slurm a plain process has the same variables as one of many.
    launcher = "pytorch" if "RANK" in os.environ else "none"
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default=launcher, help=argparse.SUPPRESS)


class Joined(argparse.Action):
    """An option of several lists of numbers, which become one."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, [number for numbers in values for number in numbers])


def stage_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: numbers of stages, such as 2,3") from None


def pool_name(text: str) -> str:
    try:
        pool_of(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def shard_size(text: str) -> dict[str, int]:
    """The arguments of ``StoreWriter``. The limit that is not given falls away."""
    found = re.fullmatch(r"([1-9]\d{0,12})(MB)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number of images, or megabytes such as 512MB")
    number = int(found[1])
    if found[2]:
        return {"shard_rows": sys.maxsize, "shard_bytes": number * 10**6}
    return {"shard_rows": number, "shard_bytes": sys.maxsize}


def workers(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: integers from 0")
    return int(text)


def check_form(args: argparse.Namespace) -> None:
    """Raises UserError for an option of the other form. Fills in the defaults of a store."""
    for name in ONLY_STORE if args.form == "npz" else ():
        if getattr(args, name) not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} is an option of --form store, and the form is npz")
    if args.form == "npz" and args.launcher != "none":
        raise UserError("several processes share the images of --form store only, and the form is npz")
    if args.form == "store" and args.pca:
        raise UserError("--pca is an option of --form npz, and the form is store")
    if args.form == "npz" and args.engine != "plain":
        raise UserError(f"--engine {args.engine} fills stores, and the form is npz; allowed: --form store")
    for name in ("ray_address", "ray_workers") if args.engine == "plain" else ():
        if getattr(args, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is an option of --engine ray, and the engine is plain")
    if args.engine == "ray" and args.launcher != "none":
        raise UserError("--engine ray starts its processes itself; allowed: without a launcher")
    args.shard_size = args.shard_size or {}
    if args.workers is None:  # on processors, many actors that read for themselves are as fast
        args.workers = 0 if args.engine == "ray" and args.device == "cpu" else min(4, os.cpu_count() or 1)
