"""Prints parameters, multiply-adds and the maps of each arch, at any input size; or of the whole models of configs.

python tools/model_info.py [PATTERN ...] [--size H [W]] [--out-indices 0 1 2 3] [--json]
python tools/model_info.py CONFIG ... [--size H [W]] [--json]
python tools/model_info.py [PATTERN ...] --published [--json]

A detector is counted on an image of 800x1280 pixels, with 1000 regions for its boxes and 100 for its masks; a segmenter
on one of 512x2048. The third form counts classifiers and prints the published figures beside them. It made
docs/models.md from docs/published.json.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import json
from pathlib import Path

import torch

from backbones import UserError, create_backbone, list_archs
from backbones.errors import unknown
from classification import create_classifier
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.console import library_warnings_to
from ziggurat.engine.counting import count, count_config
from ziggurat.engine.project_configs import is_config, refuse_mistyped
from ziggurat.engine.tool_options import add_safe_option

PUBLISHED = Path(__file__).resolve().parent.parent / "docs/published.json"
TOLERANCE = 0.02  # of a published figure, beyond its rounding; a larger difference needs its reason in PUBLISHED


def main() -> None:
    args = parse_args()
    configs = [name for name in args.patterns if is_config(name)]
    if configs:
        rows = [config_info(name, args.size) for name in configs]
        print(json.dumps(rows, indent=2) if args.json else config_table(rows))
        return
    archs = [arch for pattern in args.patterns for arch in matching(pattern)]
    if args.published:
        rows = [beside_published(arch) for arch in dict.fromkeys(archs)]
        print(json.dumps(rows, indent=2) if args.json else published_table(rows))
        return
    height, width = sides(args.size or [224])
    rows = [model_info(arch, height, width, tuple(args.out_indices), args.in_chans) for arch in dict.fromkeys(archs)]
    print(json.dumps(rows, indent=2) if args.json else table(rows, height, width))


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "patterns", nargs="*", default=["*"], metavar="PATTERN", help="arch names, * and ? allowed; or configs"
    )
    parser.add_argument(
        "--size",
        nargs="+",
        type=int,
        metavar="PIXELS",
        help="height and width (default: 224; of a detector 800 1280, of a segmenter 512 2048)",
    )
    parser.add_argument("--out-indices", nargs="+", type=int, default=[0, 1, 2, 3], help="stages whose maps are wanted")
    parser.add_argument("--in-chans", type=int, default=3, help="channels of the input (default: 3)")
    parser.add_argument("--published", action="store_true", help="count classifiers, beside their published figures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_safe_option(parser)
    args = parser.parse_args()
    if args.size and len(args.size) > 2:
        raise UserError(f"--size has {len(args.size)} values; allowed: one, or height and width")
    configs = [is_config(name) for name in args.patterns]
    if any(configs) and (not all(configs) or args.published):
        raise UserError("configs stand alone; allowed: configs without arch names and without --published")
    return args


def sides(size: list[int]) -> tuple[int, int]:
    """Height and width of ``--size``."""
    return (size[0], size[-1])


def config_info(path: str, size: list[int] | None) -> dict:
    """Parameters and multiply-adds of a config's whole model, and ``height`` and ``width`` of the image."""
    with library_warnings_to(None):
        counted, (height, width) = count_config(load_config(path), *(sides(size) if size else ()))
    return {"config": path, "params": counted.params, "macs": counted.macs, "height": height, "width": width}


def config_table(rows: list[dict]) -> str:
    lines = [f"{'params M':>9}{'MACs G':>9}  {'image':<10}config"]
    for row in rows:
        size = f"{row['height']}x{row['width']}"
        lines.append(f"{row['params'] / 1e6:>9.2f}{row['macs'] / 1e9:>9.1f}  {size:<10}{row['config']}")
    return "\n".join(lines)


def matching(pattern: str) -> list[str]:
    archs = list_archs(pattern)
    if not archs:
        refuse_mistyped(pattern)
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
        images = torch.empty(1, in_chans, height, width)
    params, macs, maps = count(net.eval(), net, images)
    return {
        "arch": arch,
        "params": params,
        "macs": macs,
        "maps": [
            {"channels": m.shape[1], "stride": info.stride, "height": m.shape[2], "width": m.shape[3]}
            for m, info in zip(maps, net.feature_info, strict=True)
        ],
    }


def beside_published(arch: str) -> dict:
    """The classifier of 1000 classes, counted at the published size.

    Returns:
        ``arch``; ``size``, pixels; ``params_m``, millions; ``macs_g``, 10**9 multiply-adds; and ``published``, a list
        of rows. A row has ``who``, ``source``, ``params_m`` and ``macs_g`` (None if not stated), ``differs`` (the keys
        of figures that are more than 2 % off after rounding) and ``why`` (key -> reason, for each of ``differs``).
    """
    entry = json.loads(PUBLISHED.read_text())["archs"].get(arch, {"size": 224, "published": []})
    with torch.device("meta"):
        clf = create_classifier(arch).eval()
        images = torch.empty(1, 3, entry["size"], entry["size"])
    params, macs, _ = count(clf, clf, images)
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
