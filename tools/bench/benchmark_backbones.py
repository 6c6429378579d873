"""Times backbones against their peers: onedl-mmpretrain's classes with the same weights.

python tools/bench/benchmark_backbones.py [van_b0 'hornet_tiny*' ...] [--device cpu] [--precision fp32] [--compile]
    [--out cpu.json]
python tools/bench/benchmark_backbones.py pvig_small --alone --sizes 800x1344 --batch 1
python tools/bench/benchmark_backbones.py --tables docs/benchmarks > docs/benchmarks.md

Both networks run in turn, in one process, on any device. Their outputs are compared first. The ratio of their times is
the result: seconds depend on the machine and on its other work. mmpretrain has no VVT. The peer of VVT is a literal
reading of its official forward pass, tools/bench/vvt_reference.py.
"""

import contextlib
import copy
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from benchmark_peers import make_peer
from tables import page
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from backbones import PyramidBackbone, UserError, create_backbone, list_archs
from backbones.checks import check_device
from backbones.registry import family_of
from ziggurat.engine.benchmark import PRECISIONS, autocast
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.memory import peak_of_tensors
from ziggurat.engine.timing import in_turn, seconds
from ziggurat.engine.tool_options import count, height_and_width

# The smallest of each kind, and one of the common size.
DEFAULT = (
    *("van_b0", "van_b2", "hornet_tiny_7x7", "hornet_tiny_gf", "hornet_small_7x7", "hornet_small_gf"),
    *("pvig_tiny", "pvig_small", "vig_tiny", "vvt_tiny", "vvt_small"),
)
TIMERS: dict[tuple[str, str], Callable[[], float]] = {}  # in a worker: (network, "inference" or "training") -> timer
AGREEMENT = 1e-5  # relative difference in float64; Fourier transforms may be in float32


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "archs", nargs="*", metavar="arch", help="arch names or patterns (default: small ones of each kind)"
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16 is autocast (default: fp32)")
    parser.add_argument("--compile", action="store_true", help="time both networks after torch.compile")
    parser.add_argument("--alone", action="store_true", help="time ours only, at sizes that the peer cannot take")
    parser.add_argument("--batch", type=count, default=8, help="images in a batch (default: 8)")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=height_and_width,
        default=[(224, 224)],
        metavar="HxW",
        help="of images (default: 224x224)",
    )
    parser.add_argument(
        "--threads", type=count, default=os.cpu_count(), help="of PyTorch on a CPU (default: one for each core)"
    )
    parser.add_argument("--repeats", type=count, default=7, help="timed calls of each network (default: 7)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    parser.add_argument(
        "--tables", type=Path, metavar="DIR", help="measure nothing; print the JSON files of a folder as tables"
    )
    args = parser.parse_args()
    if args.tables:
        print(page(args.tables))
        return
    archs = [arch for pattern in args.archs or DEFAULT for arch in list_archs(pattern) or [pattern]]
    for arch in archs:
        family_of(arch)
    device = check_device(args.device)
    if args.out:
        output_folder(args.out.parent)
        if args.out.is_dir():
            raise UserError(f"--out {args.out} is a folder; allowed: a JSON file")
    rows = []
    print("how many times faster, median of pairs" if not args.alone else "milliseconds and MiB of working memory")
    for arch in archs:
        for height, width in args.sizes:
            # A fresh process for each: memory that an earlier network has freed makes large maps cheaper.
            with workers(1) as (worker,):
                rows.append(worker.apply(measure, (arch, height, width, args)))
            if device.type == "cpu" and not args.alone:
                rows[-1]["apart"] = measure_apart(arch, height, width, args)
            print(line(rows[-1]), flush=True)
    report = {
        "machine": machine(device),
        "precision": args.precision,
        "compiled": args.compile,
        "batch": args.batch,
        "threads": args.threads if device.type == "cpu" else None,
        "rows": rows,
    }
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")
        print(f"figures: {args.out}")


def measure(arch: str, height: int, width: int, args: Any) -> dict[str, Any]:
    """Compares the outputs of both, then measures time and memory of inference, unfused and fused, and of training."""
    names = ("ours", "fused") if args.alone else ("peer", "ours", "fused")
    nets, x = networks(names, arch, height, width, args)
    row = {"arch": arch, "size": [height, width]}
    if not args.alone:
        row["relative_difference"] = difference(nets["peer"], nets["ours"], x[:1])
        if row["relative_difference"] > AGREEMENT:
            raise UserError(f"{arch}: outputs differ by {row['relative_difference']:.1e}; allowed: {AGREEMENT}")
    calls = {name: calls_of(net, x, args) for name, net in nets.items()}
    forward = {name: calls[name]["inference"] for name in names}
    if not args.alone and x.device.type == "cpu":
        forward["bound"] = products_alone(nets["ours"], x, PRECISIONS[args.precision])
    step = {name: calls[name]["training"] for name in names if name != "fused"}
    row["inference"] = paired(forward, x.device, args.repeats)
    row["training"] = paired(step, x.device, fewer(args.repeats))
    return row


def measure_apart(arch: str, height: int, width: int, args: Any) -> dict[str, Any]:
    """Times the networks in turn, each in a process of its own.

    In a common process the peer would gain from our policy of keeping freed memory.
    """
    with workers(3) as pools:
        of = dict(zip(("peer", "ours", "fused"), pools, strict=True))
        for name, pool in of.items():
            pool.apply(prepare, (name, arch, height, width, args))
        forward = {name: partial(pool.apply, timed, (name, "inference")) for name, pool in of.items()}
        step = {name: partial(of[name].apply, timed, (name, "training")) for name in ("peer", "ours")}
        return {"inference": in_turn(forward, args.repeats), "training": in_turn(step, fewer(args.repeats))}


@contextlib.contextmanager
def workers(count: int) -> Iterator[list[Any]]:
    """Fresh processes, each a pool of one."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(multiprocessing.get_context("spawn").Pool(1)) for _ in range(count)]


def prepare(name: str, arch: str, height: int, width: int, args: Any) -> None:
    """Makes one network in a worker, for :func:`timed`."""
    nets, x = networks((name,), arch, height, width, args)
    TIMERS.update(
        {(name, what): partial(seconds, call, x.device) for what, call in calls_of(nets[name], x, args).items()}
    )


def timed(name: str, what: str) -> float:
    return TIMERS[name, what]()


def networks(
    names: tuple[str, ...], arch: str, height: int, width: int, args: Any
) -> tuple[dict[str, nn.Module], Tensor]:
    """The named networks, with the same weights in every process, and the images."""
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    x = torch.rand(args.batch, 3, height, width, device=args.device) * 2 - 1
    ours = made_as_the_peer(arch)
    make = {"peer": make_peer, "ours": lambda net: net, "fused": lambda net: copy.deepcopy(net).fuse()}
    return {name: make[name](ours).to(x.device) for name in names}, x


def calls_of(net: nn.Module, x: Tensor, args: Any) -> dict[str, Callable[[], Any]]:
    run = torch.compile(net) if args.compile else net
    precision = PRECISIONS[args.precision]
    return {"inference": inference(net, run, x, precision), "training": training_step(net, run, x, precision)}


def made_as_the_peer(arch: str) -> PyramidBackbone:
    """Our network with the structure of onedl-mmpretrain's class, and with weights under which every branch counts."""
    form = {"hornet": {"out_norm": True}, "van": {"norm_eps": 1e-5}}.get(arch.split("_")[0], {})
    return with_some_weights(create_backbone(arch, **form))


def with_some_weights(net: PyramidBackbone) -> PyramidBackbone:
    """Draws one-dimensional tensors at random. Their initial values, e.g. layer scales of 1e-6, would hide branches."""
    for name, value in net.state_dict().items():
        if value.ndim == 1 and value.is_floating_point():
            value.uniform_(0.2, 0.8) if name.endswith(("weight", "var")) or "scale" in name else value.normal_(0, 0.1)
    return net


@torch.no_grad()
def difference(peer: nn.Module, ours: nn.Module, x: Tensor) -> float:
    """The largest relative difference of a map, in float64. In float32, near ties among neighbours may flip."""
    both = [copy.deepcopy(net).double() for net in (peer, ours)]
    for net in both:
        net.eval()  # mmpretrain's eval() returns None
    return max(((a - b).norm() / a.norm()).item() for a, b in zip(*(net(x.double()) for net in both), strict=True))


def inference(net: nn.Module, run: Callable, x: Tensor, precision: torch.dtype | None) -> Callable[[], Any]:
    def call() -> Any:
        net.eval()
        with torch.no_grad(), autocast(x.device, precision):
            return run(x)

    return call


def training_step(net: nn.Module, run: Callable, x: Tensor, precision: torch.dtype | None) -> Callable[[], Any]:
    """Forward and backward. The time of an optimiser is the same for both."""

    def call() -> None:
        net.train()
        net.zero_grad()
        with autocast(x.device, precision):
            maps = run(x)
        sum(m.float().square().mean() for m in maps).backward()

    return call


@torch.no_grad()
def products_alone(net: nn.Module, x: Tensor, precision: torch.dtype | None) -> Callable[[], Any]:
    """As many multiplications as the network has, all in 1x1 convolutions of the size that a CPU is fastest at."""
    net.eval()
    with FlopCounterMode(display=False) as counter:
        net(x)
    dtype = precision or x.dtype
    operand = torch.randn(8, 512, 14, 14, device=x.device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(512, 512, 1, 1, device=x.device, dtype=dtype)
    repeats = max(1, round(counter.get_total_flops() / (2 * operand.numel() * 512)))

    def call() -> None:
        for _ in range(repeats):
            F.conv2d(operand, weight)

    return call


def fewer(repeats: int) -> int:
    """The number of repeats for training steps, which take longer."""
    return max(2, repeats // 2 + 1)


def paired(calls: dict[str, Callable[[], Any]], device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """:func:`in_turn` for calls, with MiB of working memory besides."""
    found = in_turn({name: partial(seconds, call, device) for name, call in calls.items()}, repeats)
    for name, call in calls.items():
        found[name]["mib"] = round(peak_of_tensors(call, device) / 2**20, 1)
    return found


def line(row: dict[str, Any]) -> str:
    parts = [f"{row['arch']:<20}{'x'.join(map(str, row['size'])):<10}"]
    for what in ("inference", "training"):
        for name, found in row[what].items():
            if "peer" not in row[what]:
                parts.append(f"{what} {name} {found['ms']:.0f} ms {found['mib']:.0f} MiB")
            elif name != "peer":
                apart = row.get("apart", {}).get(what, {}).get(name)
                parts.append(
                    f"{what} {name} {found['ratio']:.2f}" + (f" (apart {apart['ratio']:.2f})" if apart else "")
                )
    return "  ".join(parts)


if __name__ == "__main__":
    run_tool(main)
