"""Times each fast path against the plain operation that the path replaces.

python tools/bench/benchmark_ops.py [--cases depthwise] [--device cpu] [--threads 1] [--repeats 15]
    [--out docs/benchmarks/ops_cpu.json]

Both take the same inputs, in turn, in one process. Their outputs are compared first. The ratio of their times is the
result: seconds depend on the machine and on its other work.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from benchmark_backbones import paired
from torch import Tensor

from backbones.checks import check_device
from backbones.ops.depthwise import dilated_as_dense
from ziggurat import mmcv_ops
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import count

mmcv_ops.install()

from mmcv.ops import roi_align as mmcv_roi_align  # noqa: E402


class Case(NamedTuple):
    """One operation at one size. Both functions take the tensors of ``inputs``."""

    name: str
    inputs: Callable[[], tuple[Tensor, ...]]
    plain: Callable[..., Tensor]
    fast: Callable[..., Tensor]


def roi_aligns() -> list[Case]:
    """RoIAlign of Mask R-CNN's heads, for a 512x512 image and for the demo's images, beside torchvision's."""
    found = []
    for regions, channels, side, bins, ratio in ((512, 256, 128, 7, 0), (64, 256, 128, 14, 0), (128, 64, 32, 7, 2)):
        corners = torch.rand(regions, 2, generator=torch.Generator().manual_seed(0)) * side * 0.75
        sides = torch.rand(regions, 2, generator=torch.Generator().manual_seed(1)) * side * 0.25 + 1
        rois = torch.cat([torch.zeros(regions, 1), corners, corners + sides], dim=1)
        arguments = (rois, (bins, bins), 1.0, ratio)
        found.append(
            Case(
                f"RoIAlign {bins}x{bins}, {regions} regions, {channels} channels, {side}x{side}",
                lambda channels=channels, side=side: (torch.randn(1, channels, side, side),),
                lambda x, arguments=arguments: torchvision.ops.roi_align(x, *arguments, aligned=True),
                lambda x, arguments=arguments: mmcv_roi_align(x, *arguments, "avg", True),
            )
        )
    return found


def depthwise() -> list[Case]:
    """VAN's dilated 7x7 depthwise convolution for 8 images of 224x224, in the four stages of VAN-B0 and VAN-B2."""
    found = []
    for dim, side in ((32, 56), (64, 28), (160, 14), (256, 7), (64, 56), (128, 28), (320, 14), (512, 7)):

        def inputs(dim: int = dim, side: int = side) -> tuple[Tensor, ...]:
            x = torch.randn(8, dim, side, side).contiguous(memory_format=torch.channels_last)
            return x, torch.randn(dim, 1, 7, 7), torch.randn(dim)

        found.append(
            Case(
                f"dilated depthwise 7x7, {dim} channels, {side}x{side}",
                inputs,
                lambda x, w, b: F.conv2d(x, w, b, padding=9, dilation=3, groups=x.shape[1]),
                lambda x, w, b: dilated_as_dense(x, w, b, dilation=3),
            )
        )
    return found


CASES = {"depthwise": depthwise, "roi_align": roi_aligns}


def cases(kinds: list[str]) -> list[Case]:
    return [case for kind in kinds for case in CASES[kind]()]


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="operations (default: all)")
    parser.add_argument("--device", default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--threads", type=count, default=1, help="of PyTorch on the CPU (default: 1)")
    parser.add_argument("--repeats", type=count, default=15, help="timed calls of each operation (default: 15)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    device = check_device(args.device)
    torch.set_num_threads(args.threads)
    rows = []
    print(f"{'plain / fast: how many times faster':<50}{'forward':>9}{'training':>10}")
    for case in cases(args.cases):
        rows.append(measure(case, device, args.repeats))
        print(f"{case.name:<50}{rows[-1]['forward']['ratio']:>9.1f}{rows[-1]['training']['ratio']:>10.1f}", flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"machine": machine(device), "threads": args.threads, "rows": rows}, indent=2))
        print(f"figures: {args.out}")


def measure(case: Case, device: torch.device, repeats: int) -> dict[str, Any]:
    """The relative difference of the outputs, and the times of forward and of forward + backward."""
    torch.manual_seed(0)
    inputs = tuple(t.to(device) for t in case.inputs())
    with torch.no_grad():
        plain = case.plain(*inputs)
        error = ((case.fast(*inputs) - plain).norm() / plain.norm()).item()
        forward = compared(lambda: case.plain(*inputs), lambda: case.fast(*inputs), device, repeats)
    leaves = tuple(t.requires_grad_() for t in inputs)
    grad = torch.randn_like(plain)

    def training(function: Callable[..., Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(function(*leaves), leaves, grad)

    both = compared(training(case.plain), training(case.fast), device, repeats)
    return {"case": case.name, "relative_error": error, "forward": forward, "training": both}


def compared(plain: Callable[[], Any], fast: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, float]:
    found = paired({"plain": plain, "fast": fast}, device, repeats)
    return {"plain_ms": found["plain"]["ms"], "fast_ms": found["fast"]["ms"], "ratio": found["fast"]["ratio"]}


if __name__ == "__main__":
    run_tool(main)
