"""What the tools on frozen features share: their options, the features that these ask for, and the written results."""

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from backbones.errors import UserError
from backbones.files import replaced_file
from backbones.pooling import POOLS
from classification.frozen.cache import Features
from classification.frozen.extract import features_of
from classification.frozen.source import Source
from ziggurat.engine.cli import output_folder
from ziggurat.engine.processes import init_processes, pick_device
from ziggurat.engine.tool_options import add_config_options

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """The model, the data, and how features are made from them."""
    parser.add_argument("model", help="weights, as a name, a URL or a file; or an arch, for random weights")
    parser.add_argument("data", help="a folder with train/CLASS/ and val/CLASS/, or a config of classification")
    parser.add_argument("--arch", help="arch of the weights (default: found by their tensors)")
    parser.add_argument(
        "--stages", type=numbers(int), default=[-1], help="stages that are pooled, e.g. 2,3 (default: the last)"
    )
    parser.add_argument("--pool", choices=POOLS, default="mean", help="how a map becomes a vector (default: mean)")
    parser.add_argument(
        "--input-size",
        type=int,
        metavar="PIXELS",
        help="default: the config's, else that of the weights' run, or 224",
    )
    parser.add_argument("--crop-pct", type=float, help="part of the short side that the crop keeps (default: 0.875)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="type to compute in (default: float32)")
    parser.add_argument("--half", action="store_true", help="save features as float16, in half the space")
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="images at a time (default: 64)")
    workers = min(4, os.cpu_count() or 1)
    parser.add_argument(
        "--workers", type=at_least(0), default=workers, help="processes that read images (default: up to 4)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of random choices (default: 0)")
    parser.add_argument("--cache", type=Path, metavar="FILE", help=".safetensors file that keeps the features")
    parser.add_argument("--overwrite", action="store_true", help="write the files of --cache and --out anew")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write the results to")
    # torchrun says by its variables that it runs; with Slurm a plain process has the same variables as one of many.
    launcher = "pytorch" if "RANK" in os.environ else "none"
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default=launcher,
        help="slurm: srun starts the processes",
    )
    add_config_options(parser)


def source_of(args: argparse.Namespace) -> Source:
    """What the options ask for. Joins the group of processes.

    Raises:
        UserError: as :class:`Source`; or --out is no .json, or is there, and --overwrite is not given.
    """
    if args.out is not None and (args.out.suffix.lower() != ".json" or args.out.is_dir()):
        what = ", which is a folder" if args.out.is_dir() else ""
        raise UserError(f"--out is {args.out}{what}; allowed: a file with the suffix .json")
    device = pick_device(args.device)
    init_processes(args.launcher, device)
    for path in filter(None, (args.cache, args.out)):
        output_folder(path.parent, "--cache" if path is args.cache else "--out")
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise UserError(f"--out {args.out} exists; allowed: another file, or --overwrite to replace the file")
    return Source(
        args.model,
        args.data,
        arch=args.arch,
        stages=args.stages,
        pool=args.pool,
        input_size=args.input_size,
        crop_pct=args.crop_pct,
        device=device,
        dtype=DTYPES[args.dtype],
        seed=args.seed,
        cfg_options=args.cfg_options,
    )


@contextlib.contextmanager
def features_for(source: Source, args: argparse.Namespace) -> Iterator[Features | None]:
    """A block with the features in the first process, and None in the others. Without --cache they end with it."""
    with tempfile.TemporaryDirectory() as folder:
        yield features_of(
            source,
            args.cache or Path(folder) / "features.safetensors",
            overwrite=args.overwrite,
            saved_in="float16" if args.half else "float32",
            batch_size=args.batch_size,
            workers=args.workers,
        )


def headline(features: Features) -> str:
    """One line that says what was judged."""
    meta = features.meta
    size, stages = meta["transform"]["input_size"], ", ".join(f"stage {number}" for number in meta["stages"])
    counts = " + ".join(f"{split['images']} {name}" for name, split in meta["splits"].items())
    return (
        f"{meta['arch']}, {meta['weights']}: {counts} images of {len(meta['classes'])} classes at {size} pixels, "
        f"{meta['pool']} of {stages}, {meta['width']} features"
    )


def write_results(path: Path | None, tool: str, features: Features, results: dict[str, Any]) -> None:
    """Writes results as JSON, with what the features were made from. Without a path nothing is written."""
    if path is not None:
        content = {"tool": tool, "features": features.meta, **results}
        with replaced_file(path) as beside:
            beside.write_text(json.dumps(content, indent=2) + "\n")
        print(f"results: {path}")


def numbers(kind: type[int] | type[float]):
    """A parser of texts such as ``2,3``, for argparse."""

    def parse(text: str) -> list[int] | list[float]:
        try:
            return [kind(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: numbers with commas between them") from None

    return parse


def at_least(low: int):
    """A parser of integers from ``low`` up, for argparse."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"{text}; allowed: integers from {low} up")
        return int(text)

    return parse
