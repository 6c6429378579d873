"""Measures the memory of training Mask R-CNN on a CPU, with and without gradient checkpointing.

python tools/bench/benchmark_memory.py [CONFIG ...] [--size 800x1344] [--batch 1] [--repeats 1] [--threads 1]
    [--out docs/benchmarks/memory_cpu.json]

Each row is two steps or more in a fresh process, on random images with eight objects. The file is written after each
row.
"""

from pathlib import Path

import torch

from backbones.files import write_json
from ziggurat.engine.benchmark import Setting, in_fresh_process, measure_training
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import count, height_and_width

# The small arch of each family.
CONFIGS = [
    "detection/configs/van/mask_rcnn_van_b1_fpn_1x_coco.py",
    "detection/configs/hornet/mask_rcnn_hornet_small_7x7_fpn_1x_coco.py",
    "detection/configs/pvig/mask_rcnn_pvig_small_fpn_1x_coco.py",
    "detection/configs/vig/mask_rcnn_vig_small_sfp_1x_coco.py",
    "detection/configs/vvt/mask_rcnn_vvt_small_fpn_1x_coco.py",
]


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS, metavar="CONFIG", help="configs of detectors")
    parser.add_argument("--size", type=height_and_width, default=(800, 1344), metavar="HxW", help="default: 800x1344")
    parser.add_argument("--batch", type=count, default=1, help="images in a batch (default: 1)")
    parser.add_argument(
        "--repeats", type=count, default=1, help="timed steps, after one that does not count (default: 1)"
    )
    parser.add_argument("--threads", type=count, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    report = {
        "machine": machine(torch.device("cpu"), "onedl-mmdetection"),
        "memory": {"size": args.size, "batch": args.batch},
        "threads": args.threads,
        "rows": [],
    }
    for config in args.configs:
        for checkpointing in (False, True):
            setting = Setting(
                config=config,
                options=[f"model.backbone.grad_checkpointing={checkpointing}"],
                checkpoint=None,
                size=args.size,
                batch=args.batch,
                device="cpu",
                precision="fp32",
                threads=args.threads,
                repeats=args.repeats,
                own_data=False,
            )
            found = in_fresh_process(measure_training, setting)
            row = {key: found[key] for key in ("params", "mib", "process_mib", "cpu_ms")}
            report["rows"].append({"config": config, "checkpointing": checkpointing, **row})
            print(f"{Path(config).stem}, checkpointing {checkpointing}: {row}", flush=True)
            if args.out:
                write_json(args.out, report)


if __name__ == "__main__":
    run_tool(main)
