"""The page of benchmarks: a Markdown table of each JSON file that the benchmarks wrote."""

import json
from pathlib import Path
from typing import Any

HEADING = """# Benchmarks

`make bench` measures the files in `docs/benchmarks/` and makes this page from them.

- **Peer**: onedl-mmpretrain's class with the same weights. mmpretrain has no VVT. The peer of VVT is a literal reading
  of its official forward pass.
- **Ratio**: the time of the peer divided by the time of ours. 2.0 means twice as fast. Ours and the peer run in turn,
  in one fresh process for each row. The figure is the median over pairs of runs.
- **Apart**: each network runs in a process of its own, as a user runs it. In one process the peer gains from ours: on a
  CPU ours makes the C library keep freed memory, for the whole process.
- **Fused**: ours after `net.fuse()`.
- **Bound**: the ratio of an ideal network on this CPU. The ideal network needs only the time of its multiplications, at
  the speed of the fastest matrix product of the machine.
- **Noise**: the machines are shared. VVT has nothing to fuse, so the difference between its two ratios is noise.
"""


def page(folder: Path) -> str:
    """The text of docs/benchmarks.md, from the JSON files of a folder."""
    return "\n".join([HEADING, *(table(json.loads(path.read_text())) for path in sorted(folder.glob("*.json")))])


def table(report: dict[str, Any]) -> str:
    """A table of one file, of whichever benchmark wrote it."""
    if "loader" in report:
        return loader_table(report)
    if "loop" in report:
        return loop_table(report)
    return operations_table(report) if "case" in report["rows"][0] else backbones_table(report)


def machine_of(report: dict[str, Any]) -> str:
    threads = f", {report['threads']} thread{'s' * (report['threads'] > 1)}" if report.get("threads") else ""
    return f"{report['machine']['device']}{threads}"


def operations_table(report: dict[str, Any]) -> str:
    """Ratios of fast operations, by benchmark_ops.py."""
    lines = ["| operation | forward | forward and backward |", "|-|-|-|"]
    lines += [f"| {r['case']} | {r['forward']['ratio']:.2f} | {r['training']['ratio']:.2f} |" for r in report["rows"]]
    said = "The time of the plain operation divided by the time of the fast one."
    title = f"Operations, {machine_of(report)}, torch {report['machine']['torch']}"
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def loader_table(report: dict[str, Any]) -> str:
    """Speed of the data loader, where its time goes and what was tried, by benchmark_loader.py."""
    of, kind = report["machine"], report["images"]
    title = f"Data loader, {machine_of(report)}, torch {of['torch']}, Pillow {of['pillow']}"
    said = (
        f"JPEG files of {kind['width']}x{kind['height']} pixels and {kind['kib']} KiB, with the transforms of\n"
        f"`{kind['config']}`. The figures are CPU time, so they are those of one\n"
        f"core. The best of {report['repeats']} runs with the same random numbers counts: the machines are shared."
    )
    lines = ["| loader | images/s per core |", "|-|-|"]
    lines += [f"| {name} | {speed:.0f} |" for name, speed in report["loader"].items()]
    lines += ["", "| step | ms per image |", "|-|-|"]
    lines += [f"| {name} | {ms:.2f} |" for name, ms in report["steps"].items()]
    lines += ["", "| tried | ms per image | as it is now, ms | effect |", "|-|-|-|-|"]
    lines += [f"| {r['name']} | {r['ms']:.2f} | {r['now_ms']:.2f} | {r['effect']} |" for r in report["tried"]]
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def loop_table(report: dict[str, Any]) -> str:
    """The share of a training step that is not computing, by benchmark_loop.py."""
    of = report["loop"]
    title = f"Training loop, {machine_of(report)}, torch {report['machine']['torch']}"
    said = (
        f"`{of['config']}` on random images of {of['size']} pixels, batch {of['batch']}.\n"
        "Overhead is all but forward, backward and optimiser step."
    )
    lines = ["| step, ms | overhead, ms | overhead |", "|-|-|-|"]
    lines.append(f"| {of['step_ms']:.0f} | {of['overhead_ms']:.1f} | {of['overhead']:.2%} |")
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def backbones_table(report: dict[str, Any]) -> str:
    """Ratios, or times and memory, of backbones, by benchmark_backbones.py."""
    mode = f"{report['precision']}, {'compiled' if report['compiled'] else 'eager'}, batch {report['batch']}"
    title = f"Backbones, {machine_of(report)}, {mode}, torch {report['machine']['torch']}"
    if "peer" in report["rows"][0]["inference"]:
        said = "Ratios, and MiB of working memory as ours : peer."
        head = ["arch", "pixels", "inference", "fused"]
        head += ["bound"] if "bound" in report["rows"][0]["inference"] else []
        head.append("training step")
        apart = "apart" in report["rows"][0]
        head += ["apart: inference", "apart: fused", "apart: training step"] if apart else []
        head += ["MiB inference", "MiB training"]
    else:
        said = "Milliseconds and MiB of working memory of ours alone."
        head = ["arch", "pixels", "inference ms", "fused ms", "training step ms", "MiB inference", "MiB training"]
    lines = [f"| {' | '.join(head)} |", "|-" * len(head) + "|"]
    for row in report["rows"]:
        key, digits = ("ratio", 2) if "peer" in row["inference"] else ("ms", 0)
        cells = [found[key] for name, found in row["inference"].items() if name != "peer"]
        cells.append(row["training"]["ours"][key])
        if "apart" in row:
            of = row["apart"]
            cells += [of["inference"]["ours"][key], of["inference"]["fused"][key], of["training"]["ours"][key]]
        cells = [f"{cell:.{digits}f}" for cell in cells]
        for what in ("inference", "training"):
            cells.append(" : ".join(f"{row[what][name]['mib']:.0f}" for name in ("ours", "peer") if name in row[what]))
        lines.append(f"| {row['arch']} | {'x'.join(map(str, row['size']))} | {' | '.join(cells)} |")
    return "\n".join([f"## {title}", "", said, "", *lines, ""])
