"""Times training steps of mmdetection's Mask R-CNN with our backbone, beside onedl-mmpretrain's class in its place.

python tools/bench/benchmark_detectors.py [van_b2 ...] [--size 512x512] [--batch 1] [--threads 2] [--repeats 7]
    [--out docs/benchmarks/detectors_cpu.json]

Both detectors have the same weights and see the same random images. The maps of the backbones are compared first, then
the losses. Each detector runs in a process of its own, and their steps take turns. The step is whole: preprocessing,
forward, backward, AdamW. The ratio of CPU time is given beside that of the time on the clock, since other work of the
machine hardly changes it.
"""

import os
import statistics
from pathlib import Path
from typing import Any

import torch
from benchmark_backbones import AGREEMENT, difference, made_as_the_peer, workers
from benchmark_peers import make_peer
from mmengine.dataset import pseudo_collate
from torch import nn

from backbones import UserError, list_archs
from backbones.files import write_json
from ziggurat.engine.benchmark import Setting, measuring, random_set
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.tasks import task_for
from ziggurat.engine.timing import cpu_seconds, seconds
from ziggurat.engine.tool_options import count, height_and_width

DEFAULT = ("van_b0", "van_b2", "hornet_tiny_7x7")
CONFIG = "detection/configs/van/mask_rcnn_van_b2_fpn_1x_coco.py"
LOSS_AGREEMENT = 1e-3  # relative difference in float32
STEPS: dict[str, Any] = {}  # in a worker: "step" -> the function that runs a step


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "archs", nargs="*", metavar="arch", help=f"arch names or patterns (default: {' '.join(DEFAULT)})"
    )
    parser.add_argument("--size", type=height_and_width, default=(512, 512), metavar="HxW", help="default: 512x512")
    parser.add_argument("--batch", type=count, default=1, help="images in a batch (default: 1)")
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="of PyTorch (default: one for each core)")
    parser.add_argument("--repeats", type=count, default=7, help="timed steps of each detector (default: 7)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    report = {
        "machine": machine(torch.device("cpu"), "onedl-mmdetection", "onedl-mmpretrain"),
        "detectors": {"config": CONFIG, "size": args.size, "batch": args.batch},
        "threads": args.threads,
        "rows": [],
    }
    for arch in [arch for pattern in args.archs or DEFAULT for arch in list_archs(pattern) or [pattern]]:
        report["rows"].append(compared(arch, args))
        print(report["rows"][-1], flush=True)
        if args.out:
            write_json(args.out, report)


def compared(arch: str, args: Any) -> dict[str, Any]:
    """Times of both detectors, after the comparison of their maps and losses.

    Returns:
        ``arch``, ``relative_difference`` of the maps, ``loss_difference``, ``ratio`` and ``cpu_ratio`` (how many times
        faster ours is, medians over pairs of steps), ``ms`` and ``cpu_ms`` of each detector.
    """
    with workers(1) as (pool,):
        apart = pool.apply(maps_apart, (arch, args))
    if apart > AGREEMENT:
        raise UserError(f"{arch}: maps differ by {apart:.1e}; allowed: {AGREEMENT}")
    with workers(2) as pools:
        of = dict(zip(("peer", "ours"), pools, strict=True))
        losses = {name: pool.apply(prepare, (name, arch, args)) for name, pool in of.items()}
        loss_apart = abs(losses["ours"] / losses["peer"] - 1)
        if loss_apart > LOSS_AGREEMENT:
            raise UserError(f"{arch}: losses differ by {loss_apart:.1e}; allowed: {LOSS_AGREEMENT}")
        turns = [{name: pool.apply(timed_step) for name, pool in of.items()} for _ in range(args.repeats + 1)][1:]
    row = {"arch": arch, "relative_difference": apart, "loss_difference": loss_apart}
    for clock, key, ratio in ((0, "ms", "ratio"), (1, "cpu_ms", "cpu_ratio")):
        row[ratio] = round(statistics.median(turn["peer"][clock] / turn["ours"][clock] for turn in turns), 3)
        row[key] = {name: round(1e3 * statistics.median(turn[name][clock] for turn in turns), 1) for name in of}
    return row


def maps_apart(arch: str, args: Any) -> float:
    """The largest relative difference of a map of both backbones, in float64."""
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    ours = made_as_the_peer(arch)
    return difference(make_peer(ours), ours, torch.rand(1, 3, *args.size) * 2 - 1)


def prepare(name: str, arch: str, args: Any) -> float:
    """Makes a detector in a worker, for :func:`timed_step`. Returns its loss on the images, before any step."""
    options = [f"model.backbone.arch={arch}"]
    options += ["model.backbone.out_norm=True"] if arch.startswith("hornet") else []
    setting = Setting(CONFIG, options, None, args.size, args.batch, "cpu", "fp32", args.threads, 1, False)
    with measuring("training", setting) as cfg:
        task = task_for(cfg)
        cfg.model.backbone.update(pretrained=None, drop_path_rate=0.0)
        model = with_backbone(task.build_model(cfg), arch, name)
        batch = pseudo_collate([random_set(cfg, setting)[i] for i in range(args.batch)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.05)

    def step() -> float:
        torch.manual_seed(0)  # of the sampling of boxes
        with task.scoped(cfg):
            data = model.data_preprocessor(batch, True)
            loss, _ = model.parse_losses(model(**data, mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    STEPS["step"] = step
    return step()


def with_backbone(model: nn.Module, arch: str, name: str) -> nn.Module:
    """The model with our backbone, or the peer's, of the same weights in every process."""
    torch.manual_seed(0)
    ours = made_as_the_peer(arch)
    model.backbone = ours if name == "ours" else make_peer(ours)
    torch.manual_seed(1)
    for part in ("neck", "rpn_head", "roi_head"):
        getattr(model, part).init_weights()
    model.train()
    return model


def timed_step() -> tuple[float, float]:
    """Seconds of a step on the clock, and CPU seconds."""
    wall: list[float] = []
    device = torch.device("cpu")
    cpu = cpu_seconds(lambda: wall.append(seconds(STEPS["step"], device)), device)
    return wall[0], cpu


if __name__ == "__main__":
    run_tool(main)
