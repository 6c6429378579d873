"""Prints parameters, multiply-adds and the maps of each arch, at any input size.

python tools/model_info.py [PATTERN ...] [--size H [W]] [--out-indices 0 1 2 3] [--json]
python tools/model_info.py [PATTERN ...] --published [--json]

The second form counts classifiers and prints the published figures beside them. It made docs/models.md from
docs/published.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbones import UserError, create_backbone, list_archs
from backbones.errors import unknown
from classification import create_classifier
from engine.cli import Parser, run_tool

PUBLISHED = Path(__file__).resolve().parent.parent / "docs/published.json"
TOLERANCE = 0.02  # of a published figure, beyond its rounding; a larger difference needs its reason in PUBLISHED


def main() -> None:
    args = parse_args()
    archs = [arch for pattern in args.patterns for arch in matching(pattern)]
    if args.published:
        rows = [beside_published(arch) for arch in dict.fromkeys(archs)]
        print(json.dumps(rows, indent=2) if args.json else published_table(rows))
        return
    height, width = args.size if len(args.size) == 2 else args.size * 2
    rows = [model_info(arch, height, width, tuple(args.out_indices), args.in_chans) for arch in dict.fromkeys(archs)]
    print(json.dumps(rows, indent=2) if args.json else table(rows, height, width))


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help="arch names, * and ? allowed")
    parser.add_argument("--size", nargs="+", type=int, default=[224], metavar="PIXELS", help="height and width")
    parser.add_argument("--out-indices", nargs="+", type=int, default=[0, 1, 2, 3], help="stages whose maps are wanted")
    parser.add_argument("--in-chans", type=int, default=3, help="channels of the input (default: 3)")
    parser.add_argument("--published", action="store_true", help="count classifiers, beside their published figures")
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
    """Parameters, multiply-adds and maps of an arch. The network runs on the meta device, so nothing is computed.

    Returns:
        ``arch``; ``params`` (parameters of the backbone); ``macs`` (multiply-adds of one image in convolutions and
        matrix products); ``maps``, a list of ``channels``, ``stride``, ``height`` and ``width``.
    """
    with torch.device("meta"):
        net = create_backbone(arch, out_indices=out_indices, in_chans=in_chans)
    maps, params, macs = count(net, (1, in_chans, height, width))
    return {
        "arch": arch,
        "params": params,
        "macs": macs,
        "maps": [
            {"channels": m.shape[1], "stride": info.stride, "height": m.shape[2], "width": m.shape[3]}
            for m, info in zip(maps, net.feature_info, strict=True)
        ],
    }


def count(net: nn.Module, shape: tuple[int, ...]) -> tuple[Any, int, int]:
    """The outputs of a network on the meta device for an input of this shape, its parameters and multiply-adds."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = net.eval()(torch.empty(shape, device="meta"))
    return outputs, sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2


def beside_published(arch: str) -> dict:
    """The classifier of 1000 classes, counted at the published size.

    Returns:
        ``arch``; ``size``, pixels; ``params_m``, millions; ``macs_g``, 10**9 multiply-adds; and ``published``, a list
        of rows. A row has ``who``, ``source``, ``params_m`` and ``macs_g`` (None if not stated), ``differs`` (the keys
        of figures that are more than 2 % off after rounding) and ``why`` (key -> reason, for each of ``differs``).
    """
    entry = json.loads(PUBLISHED.read_text())["archs"].get(arch, {"size": 224, "published": []})
    with torch.device("meta"):
        clf = create_classifier(arch)
    _, params, macs = count(clf, (1, 3, entry["size"], entry["size"]))
    counted = {"params_m": params / 1e6, "macs_g": macs / 1e9}
    rows = []
    for row in entry["published"]:
        differs = [key for key in counted if row[key] is not None and not close(counted[key], row[key])]
        rows.append({**row, "differs": differs, "why": {key: row.get("why", {}).get(key) for key in differs}})
    return {"arch": arch, "size": entry["size"], **counted, "published": rows}


def close(counted: float, published: float) -> bool:
    """Whether two figures differ by no more than 2 % and the rounding of the published one."""
    digits = len(str(published).partition(".")[2])
    return abs(counted - published) <= TOLERANCE * published + 0.5 * 10**-digits


def published_table(rows: list[dict]) -> str:
    """A Markdown table with a numbered reason for each difference over 2 %."""
    whys: list[str] = []

    def cell(row: dict, who: str, key: str) -> str:
        found = [r for r in row["published"] if r["who"] == who and r[key] is not None]
        if not found:
            return "-"
        figure = f"{found[0][key]:.2f}" if len(str(found[0][key]).partition(".")[2]) > 2 else str(found[0][key])
        if key not in found[0]["differs"]:
            return figure
        why = found[0]["why"][key] or "unexplained"
        if why not in whys:
            whys.append(why)
        return f"{figure} ({whys.index(why) + 1})"

    lines = [
        "# Models",
        "",
        "Made by `python tools/model_info.py --published`. The table shows parameters in millions and multiply-adds in",
        "billions of classifiers with 1000 classes. Each is counted here and stands beside the published figures.",
        "",
        "| arch | pixels | params M, here | authors | mmpretrain | MACs G, here | authors | mmpretrain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['arch']} | {row['size']}"]
        for key in ("params_m", "macs_g"):
            cells += [f"{row[key]:.2f}", cell(row, "authors", key), cell(row, "mmpretrain", key)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n({i}) {why}" for i, why in enumerate(whys, 1))])


def table(rows: list[dict], height: int, width: int) -> str:
    lines = [f"backbones without heads at {height}x{width}; maps as channels/stride (height x width)", ""]
    lines.append(f"{'arch':<12}{'params M':>9}{'MACs G':>9}  maps")
    for row in rows:
        maps = "  ".join(f"{m['channels']}/{m['stride']} ({m['height']}x{m['width']})" for m in row["maps"])
        lines.append(f"{row['arch']:<12}{row['params'] / 1e6:>9.2f}{row['macs'] / 1e9:>9.2f}  {maps}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_tool(main)
