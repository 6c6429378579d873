"""Parameters, multiply-adds, and the maps of each arch at any input size.

python tools/model_info.py [PATTERN ...] [--size H [W]] [--out-indices 0 1 2 3] [--json]
"""

import argparse
import json

import torch
from torch.utils.flop_counter import FlopCounterMode

from backbones import UserError, create_backbone, list_archs
from backbones.errors import unknown
from engine.cli import Parser, run_tool


def main() -> None:
    args = parse_args()
    archs = [arch for pattern in args.patterns for arch in matching(pattern)]
    height, width = args.size if len(args.size) == 2 else args.size * 2
    rows = [model_info(arch, height, width, tuple(args.out_indices), args.in_chans) for arch in dict.fromkeys(archs)]
    print(json.dumps(rows, indent=2) if args.json else table(rows, height, width))


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help="arch names, * and ? allowed")
    parser.add_argument("--size", nargs="+", type=int, default=[224], metavar="PIXELS", help="height and width")
    parser.add_argument("--out-indices", nargs="+", type=int, default=[0, 1, 2, 3], help="stages whose maps are wanted")
    parser.add_argument("--in-chans", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    if len(args.size) > 2:
        raise UserError(f"--size has {len(args.size)} values; allowed: one, or height and width")
    return args


def matching(pattern: str) -> list[str]:
    archs = list_archs(pattern)
    if not archs:
        raise unknown("arch", pattern, list_archs())
    return archs


def model_info(
    arch: str, height: int, width: int, out_indices: tuple[int, ...] = (0, 1, 2, 3), in_chans: int = 3
) -> dict:
    """Counts without computing: the network runs on the meta device.

    Returns:
        ``arch``; ``params`` (parameters of the backbone); ``macs`` (multiply-adds of one image in convolutions and
        matrix products); ``maps``, a list of ``channels``, ``stride``, ``height`` and ``width``.
    """
    with torch.device("meta"):
        net = create_backbone(arch, out_indices=out_indices, in_chans=in_chans).eval()
        image = torch.empty(1, in_chans, height, width)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = net(image)
    return {
        "arch": arch,
        "params": sum(p.numel() for p in net.parameters()),
        "macs": counter.get_total_flops() // 2,
        "maps": [
            {"channels": m.shape[1], "stride": info.stride, "height": m.shape[2], "width": m.shape[3]}
            for m, info in zip(maps, net.feature_info, strict=True)
        ],
    }


def table(rows: list[dict], height: int, width: int) -> str:
    lines = [f"backbones without heads at {height}x{width}; maps as channels/stride (height x width)", ""]
    lines.append(f"{'arch':<12}{'params M':>9}{'MACs G':>9}  maps")
    for row in rows:
        maps = "  ".join(f"{m['channels']}/{m['stride']} ({m['height']}x{m['width']})" for m in row["maps"])
        lines.append(f"{row['arch']:<12}{row['params'] / 1e6:>9.2f}{row['macs'] / 1e9:>9.2f}  {maps}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_tool(main)
