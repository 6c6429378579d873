"""Exports every arch in every format, compares the files with PyTorch, and times them beside it.

python tools/bench/benchmark_exports.py [PATTERN ...] --out FIGURES.json [--format onnx pt2]
    [--extent fixed free] [--blocks 1] [--size 224] [--repeats 3]

Each arch has a process of its own. The backbones have random weights; biases and scales are moved far from their first
values, so that no branch hides behind a scale of 1e-6. An interrupted run goes on with the archs that are missing.
"""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backbones import create_backbone, list_archs
from backbones.errors import unknown
from backbones.export import FORMATS, Extent
from backbones.files import write_json
from backbones.registry import family_of
from backbones.weights import statistics
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.exporting import Subject, export
from ziggurat.engine.machine import machine
from ziggurat.engine.photographs import batch_of, photographs
from ziggurat.engine.tool_options import count

EXTENTS = {"fixed": (), "free": ("batch", "size")}
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")


def main() -> None:
    args = parse_args()
    archs = [arch for pattern in args.patterns for arch in list_archs(pattern) or [None]]
    if None in archs:
        raise unknown("arch", " ".join(args.patterns), list_archs())
    output_folder(args.out.parent)
    report = json.loads(args.out.read_text()) if args.out.is_file() else {"rows": []}
    report["machine"] = machine(torch.device("cpu"), *PACKAGES) | {"threads": args.threads}
    report["export"] = {"size": args.size, "repeats": args.repeats}
    done = {(row["arch"], row["extent"]) for row in report["rows"]}
    for arch in sorted(dict.fromkeys(archs), key=params_of):
        for extent in args.extent:
            if (arch, extent) in done:
                continue
            report["rows"] += in_process(arch, extent, args.format, args.blocks, args.size, args.repeats, args.threads)
            write_json(args.out, report)
    print(f"figures: {args.out}")


def parse_args() -> Any:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help="archs, * and ? allowed")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: all")
    parser.add_argument("--extent", nargs="+", choices=EXTENTS, default=list(EXTENTS), help="default: both")
    parser.add_argument("--blocks", type=count, help="blocks of a stage at most, for a shorter run (default: all)")
    parser.add_argument("--size", type=count, default=224, help="side of the images in pixels (default: 224)")
    parser.add_argument("--repeats", type=count, default=3, help="timed calls, whose median counts (default: 3)")
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="default: one for each core")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    return parser.parse_args()


def params_of(arch: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_backbone(arch).parameters())


def in_process(arch: str, extent: str, *args: Any) -> list[dict[str, Any]]:
    """The rows of :func:`measured`, from a process that ends after it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measured, arch, extent, *args).result()
        except BrokenProcessPool:
            refused = "the system ended the process, as it does when memory is short"
            return [{"arch": arch, "extent": extent, "format": None, "refused": refused}]


def measured(
    arch: str, extent: str, formats: list[str], blocks: int | None, size: int, repeats: int, threads: int
) -> list[dict[str, Any]]:
    """One row for each format of an arch; prints them."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net, found = moved(shallow(arch, blocks)).eval(), statistics(arch, None)
    pictures, _ = photographs()
    images = batch_of(pictures, (len(pictures), 3, size, size), found.mean, found.std)
    settle(net, lambda: net(images))
    subject = Subject(net, arch, "backbone", found, None)
    free, rows, start = EXTENTS[extent], [], time.perf_counter()
    formats = [name for name in formats if not (free and FORMATS[name].is_fixed)]
    with tempfile.TemporaryDirectory() as folder:
        for row in export(subject, formats, Path(folder), Extent((size, size), 1, free), repeats=repeats):
            largest, mean, _ = row.errors or (None, None, None)
            rows.append(
                {"arch": arch, "params": sum(p.numel() for p in net.parameters()), "extent": extent, "format": row.name}
                | {"blocks": blocks}
                | {"refused": row.refused, "mib": row.mib and round(row.mib, 1), "max_error": largest}
                | {"mean_error": mean, "ms": row.ms, "torch_ms": row.torch_ms, "ratio": row.ratio}
                | {"inputs": [list(shape) for shape in row.sizes]}
            )
            print(arch, extent, row.name, row.refused or f"{largest:.1e} {mean:.1e} {row.ratio}x", flush=True)
    print(f"{arch} {extent}: {time.perf_counter() - start:.0f} s", flush=True)
    return rows


def shallow(arch: str, blocks: int | None) -> nn.Module:
    """The backbone of an arch, whose stages have so many blocks at most."""
    family = family_of(arch)
    depths = family.ARCHS[arch].depths
    if blocks is not None:
        depths = tuple(min(depth, blocks) for depth in depths)
        family.ARCHS = family.ARCHS | {arch: family.ARCHS[arch]._replace(depths=depths)}
    return create_backbone(arch)


def moved(net: nn.Module) -> nn.Module:
    """The network with random biases and scales, as far from their first values as after a training."""
    for module in net.modules():
        for name, param in module.named_parameters(recurse=False):
            if param.ndim == 1 and name == "bias":
                param.data.normal_(0, 0.05)
            elif param.ndim == 1:
                low, high = (0.8, 1.2) if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) else (0.05, 0.15)
                param.data.uniform_(low, high)
    return net


@torch.no_grad()
def settle(net: nn.Module, run: Callable[[], Any]) -> None:
    """Gives the norms of a network in eval mode the statistics of one pass, ``run``, in place.

    With other statistics the values of a deep network overflow.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    run()
    for norm in norms:
        norm.eval()


if __name__ == "__main__":
    run_tool(main)
