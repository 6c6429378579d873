"""The page of benchmarks: a Markdown table of each JSON file that the benchmarks wrote."""

import json
from pathlib import Path
from typing import Any

from ziggurat.engine.step_times import PARTS

HEADING = """# Benchmarks

`make bench` and `make bench-dense` measure the files in `docs/benchmarks/` and make this page from them.

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
    for key, made in TABLES.items():
        if key in report:
            return made(report)
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


def model_table(report: dict[str, Any]) -> str:
    """Speed and memory of a config's whole model, by tools/benchmark.py."""
    of = report["model"]
    title = f"{Path(of['config']).stem}, {machine_of(of | report)}, {of['precision']}, batch {of['batch']}"
    data = "the config's data" if of["own_data"] else "random images"
    first = next(report[what] for what in ("inference", "training") if what in report)
    said = f"`{of['config']}` on {data}, {first['params'] / 1e6:.1f} M parameters, torch {report['machine']['torch']}."
    clock = "cpu_ms" if of["device"] == "cpu" else "ms"  # CPU machines are shared
    lines = [f"| | pixels | {clock.replace('cpu_ms', 'CPU ms')} a batch | MiB |", "|-|-|-|-|"]
    for what in ("inference", "training"):
        if what in report:
            row = report[what]
            size = "x".join(map(str, row["size"]))
            lines.append(f"| {what} | {size} | {row[clock]:.0f} | {row['mib']:.0f} |")
    if "training" in report:
        parts = report["training"]["parts"]
        whole = sum(times[clock] for times in parts.values())
        lines += ["", "| part of a training step | ms | share |", "|-|-|-|"]
        for part, times in parts.items():
            lines.append(f"| {PARTS[part]} | {times[clock]:.1f} | {times[clock] / whole:.1%} |")
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def memory_table(report: dict[str, Any]) -> str:
    """Memory of training, with and without gradient checkpointing, by benchmark_memory.py."""
    of = report["memory"]
    size = "x".join(map(str, of["size"]))
    title = f"Memory of training Mask R-CNN at {size}, batch {of['batch']}, on a CPU"
    said = (
        "MiB beyond the libraries: weights, gradients, AdamW's state, activations, and what the allocator keeps.\n"
        "In brackets: resident memory of the whole process. Gradient checkpointing is\n"
        "`model.backbone.grad_checkpointing=True`; the last column is what it costs in CPU time. The weights are\n"
        "random, so fewer objects reach the mask head than in a trained detector."
    )
    lines = ["| config | parameters M | without checkpointing | with | CPU time of a step |", "|-|-|-|-|-|"]
    by_config: dict[str, dict[bool, Any]] = {}
    for row in report["rows"]:
        by_config.setdefault(row["config"], {})[row["checkpointing"]] = row
    for config, rows in by_config.items():
        cells = [f"{row['mib']:.0f} ({row['process_mib']:.0f})" for _, row in sorted(rows.items())]
        slower = rows[True]["cpu_ms"] / rows[False]["cpu_ms"]
        lines.append(
            f"| {Path(config).stem} | {rows[False]['params'] / 1e6:.1f} | {' | '.join(cells)} | x {slower:.2f} |"
        )
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def detectors_table(report: dict[str, Any]) -> str:
    """Training steps of a detector with our backbone beside those with the peer's, by benchmark_detectors.py."""
    of = report["detectors"]
    size = "x".join(map(str, of["size"]))
    title = f"Mask R-CNN beside the peer's backbone at {size}, batch {of['batch']}, {machine_of(report)}"
    said = (
        f"Training steps of `{of['config']}`\n"
        "with another arch. Both detectors have the same weights and losses, run in a process each, and take turns.\n"
        "The ratio is the time with the peer's backbone divided by that with ours. Neck and heads are the same code."
    )
    lines = ["| arch | ratio | ratio of CPU time | CPU ms, peer | CPU ms, ours |", "|-|-|-|-|-|"]
    for row in report["rows"]:
        ms = row["cpu_ms"]
        lines.append(
            f"| {row['arch']} | {row['ratio']:.2f} | {row['cpu_ratio']:.2f} | {ms['peer']:.0f} | {ms['ours']:.0f} |"
        )
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def masks_table(report: dict[str, Any]) -> str:
    """Masks as run-length codes beside bitmaps, by benchmark_masks.py."""
    of = report["masks"]
    title = f"Loading of masks, {machine_of(report)}"
    said = (
        f"Images of {of['width']}x{of['height']} pixels with {of['objects']} objects, through the training pipelines\n"
        "of these configs. Each figure is that of mmdetection's bitmaps, then that of run-length codes. Times are CPU\n"
        "time. Sending is from a worker to the training. Targets are those of 128 regions for the mask head."
    )
    lines = ["| config | pipeline ms | sending ms | KiB sent for the truth | MiB for targets |", "|-|-|-|-|-|"]
    for row in report["rows"]:
        both = row["bitmaps"], row["codes"]
        cells = [f"{both[0][key]:.4g}, {both[1][key]:.4g}" for key in both[0]]
        lines.append(f"| {Path(row['config']).stem} | {' | '.join(cells)} |")
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def saving_table(report: dict[str, Any]) -> str:
    """How long a checkpoint stops a training, by benchmark_saving.py."""
    said = (
        "A thread writes a checkpoint while the training goes on. The training stops to copy weights, averaged\n"
        "weights and optimiser, and for collecting what belongs to it. Medians."
    )
    lines = ["| training of | MiB | stopped ms | copy alone ms | writing without a thread ms |", "|-|-|-|-|-|"]
    for row in report["rows"]:
        times = " | ".join(f"{row[key]:.0f}" for key in ("stopped_ms", "copied_ms", "written_ms"))
        lines.append(f"| {Path(row['config']).stem} | {row['mib']} | {times} |")
    return "\n".join([f"## Saving, {machine_of(report)}", "", said, "", *lines, ""])


def starts_table(report: dict[str, Any]) -> str:
    """How long the command and imports take to start, by benchmark_start.py."""
    said = f"Each in a fresh process; medians of {report['repeats']}, in turns."
    lines = ["| | seconds | CPU seconds |", "|-|-|-|"]
    lines += [f"| `{name}` | {row['wall_s']:.2f} | {row['cpu_s']:.2f} |" for name, row in report["starts"].items()]
    title = f"Start, {machine_of(report)}, torch {report['machine']['torch']}"
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


# A key that only the files of one benchmark have -> its table.
TABLES = {
    "loader": loader_table,
    "model": model_table,
    "memory": memory_table,
    "detectors": detectors_table,
    "masks": masks_table,
    "saving": saving_table,
    "starts": starts_table,
}
