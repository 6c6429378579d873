"""Measures a config's whole model: speed and memory of inference, and of a training step with its parts.

python tools/benchmark.py CONFIG [CHECKPOINT] [--only inference] [--size 800x1344] [--batch 2] [--device cuda]
    [--precision bf16] [--threads 2] [--repeats 5] [--own-data] [--out figures.json] [--cfg-options KEY=VALUE ...]

The images are random, unless --own-data says otherwise. Without --size they are, for inference, as large as those at
which papers count such a model, and for training as large as the config's crops. Random weights find no objects, so
inference then leaves out what follows the boxes; a CHECKPOINT finds some. Inference and training run in a fresh process
each. Memory on a GPU is that of tensors. On a CPU it is what the process takes beyond its libraries: weights,
gradients, the optimiser's state, activations, and what the allocator keeps.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from backbones import UserError
from backbones.files import write_json
from ziggurat.engine.benchmark import PRECISIONS, Setting, in_fresh_process, measure_inference, measure_training
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.machine import machine
from ziggurat.engine.processes import pick_device
from ziggurat.engine.step_times import PARTS
from ziggurat.engine.tasks import task_for
from ziggurat.engine.tool_options import add_config_options, count, height_and_width

MEASUREMENTS = {"inference": measure_inference, "training": measure_training}
LIBRARIES = {"mmdet": "onedl-mmdetection", "mmseg": "onedl-mmsegmentation"}


def main() -> None:
    args = parse_args()
    device = pick_device(args.device)
    if args.out:
        output_folder(args.out.parent)
        if args.out.is_dir():
            raise UserError(f"--out {args.out} is a folder; allowed: a JSON file")
    if args.checkpoint and not Path(args.checkpoint).is_file():
        raise UserError(f"no such checkpoint file: {args.checkpoint}")
    library = LIBRARIES.get(task_for(load_config(args.config, args.cfg_options)).scope)
    setting = Setting(
        config=args.config,
        options=args.cfg_options,
        checkpoint=args.checkpoint,
        size=args.size,
        batch=args.batch,
        device=device,
        precision=args.precision,
        threads=args.threads,
        repeats=args.repeats,
        own_data=args.own_data,
    )
    found = {name: in_fresh_process(MEASUREMENTS[name], setting) for name in args.only or MEASUREMENTS}
    report = {
        "machine": machine(torch.device(device), *filter(None, ["onedl-mmengine", library])),
        "model": setting._asdict() | {"threads": args.threads if device == "cpu" else None},
        **found,
    }
    print(text_of(report))
    if args.out:
        write_json(args.out, report)
        print(f"figures: {args.out}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of any task")
    parser.add_argument("checkpoint", nargs="?", help="weights of the model (default: random ones)")
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, help="what is measured (default: inference and training)"
    )
    parser.add_argument("--size", type=height_and_width, metavar="HxW", help="of random images (default: see above)")
    parser.add_argument("--batch", type=count, default=1, help="images in a batch (default: 1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16 is autocast (default: fp32)")
    parser.add_argument(
        "--threads", type=count, default=os.cpu_count(), help="of PyTorch on a CPU (default: one for each core)"
    )
    parser.add_argument("--repeats", type=count, default=5, help="timed batches, whose median counts (default: 5)")
    parser.add_argument("--own-data", action="store_true", help="take the config's data, and time its loader as well")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    add_config_options(parser)
    args = parser.parse_args()
    if args.size and args.own_data:
        raise UserError("--size and --own-data exclude each other: the config's pipeline sets the size of its data")
    return args


def text_of(report: dict[str, Any]) -> str:
    """The figures as they are printed."""
    model, lines = report["model"], []
    first = next(report[name] for name in MEASUREMENTS if name in report)
    threads = f", {model['threads']} thread{'s' * (model['threads'] > 1)}" if model["threads"] else ""
    lines.append(f"{model['config']}: {first['params'] / 1e6:.2f} M parameters")
    lines.append(f"{report['machine']['device']}{threads}, {model['precision']}, batch {model['batch']}")
    for name in MEASUREMENTS:
        if name not in report:
            continue
        of = report[name]
        whole = f" (whole process {of['process_mib']:.0f} MiB)" if "process_mib" in of else ""
        speed = f"{of['images_per_s']:.3g} images/s  {of['ms']:.0f} ms a batch"
        lines.append(f"{name:<10} {'x'.join(map(str, of['size']))}  {speed}  {of['mib']:.0f} MiB{whole}")
        if of.get("objects") == 0:
            lines.append("           no objects were found, so nothing was computed for them; name a CHECKPOINT")
    if "training" in report:
        lines += ["", *parts_table(report["training"])]
    return "\n".join(lines)


def parts_table(training: dict[str, Any]) -> list[str]:
    whole = sum(times["ms"] for times in training["parts"].values())
    lines = [f"{'ms':>9}{'share':>8}{'CPU ms':>9}  a training step, median of each part"]
    for part, times in training["parts"].items():
        lines.append(f"{times['ms']:>9.1f}{times['ms'] / whole:>8.1%}{times['cpu_ms']:>9.1f}  {PARTS[part]}")
    return lines


if __name__ == "__main__":
    run_tool(main)
