"""Exports detectors in every format, compares the objects that are found with those of PyTorch, and times both.

python tools/bench/benchmark_detector_exports.py [CONFIG ...] --out FIGURES.json [--format onnx pt2]
    [--extent fixed free] [--size 320] [--repeats 3]

The detectors have random weights. The last layers of their heads are scaled, so that scores and boxes are spread as
after a training, and suppression has work. An interrupted run goes on with the configs that are missing.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_exports import PACKAGES, moved, settle
from torch import Tensor, nn

from backbones import PyramidBackbone
from backbones.export import FORMATS, Extent
from backbones.files import write_json
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.exporting import Subject, export, statistics_of
from ziggurat.engine.machine import machine
from ziggurat.engine.photographs import batch_of, photographs
from ziggurat.engine.tasks import task_for
from ziggurat.engine.tool_options import count

CONFIGS = (
    "retinanet_van_b0_fpn_1x_coco",
    "mask_rcnn_van_b0_fpn_1x_coco",
    "dino_van_b1_12e_coco",
    "atss_van_b1_fpn_3x_coco",
    "gfl_van_b1_fpn_3x_coco",
    "rtmdet_van_b1_300e_coco",
    "cascade_mask_rcnn_van_b1_fpn_3x_coco",
)
EXTENTS = {"fixed": (), "free": ("size",)}
# The last layers of heads, and the standard deviation that their outputs get.
LAST = {
    **dict.fromkeys(("retina_cls", "atss_cls", "gfl_cls", "rtm_cls", "rpn_cls", "fc_cls", "conv_logits"), 1.5),
    **dict.fromkeys(("retina_reg", "atss_reg", "rpn_reg"), 0.3),
    **dict.fromkeys(("gfl_reg", "rtm_reg", "fc_reg"), 1.0),
}


def main() -> None:
    args = parse_args()
    output_folder(args.out.parent)
    torch.set_num_threads(args.threads)
    report = json.loads(args.out.read_text()) if args.out.is_file() else {"rows": []}
    report["machine"] = machine(torch.device("cpu"), *PACKAGES) | {"threads": args.threads}
    report["export"] = {"size": args.size, "repeats": args.repeats}
    done = {(row["config"], row["extent"]) for row in report["rows"]}
    for config in dict.fromkeys(args.configs or CONFIGS):
        for extent in args.extent:
            if (config, extent) not in done:
                report["rows"] += measured(config, extent, args.format, args.size, args.repeats)
                write_json(args.out, report)
    print(f"figures: {args.out}")


def parse_args() -> Any:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "configs", nargs="*", metavar="CONFIG", help="names of detectors' configs (default: one a head)"
    )
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), help="default: all")
    parser.add_argument(
        "--extent", nargs="+", choices=EXTENTS, default=list(EXTENTS), help="of the size; default: both"
    )
    parser.add_argument("--size", type=count, default=320, help="side of the images in pixels (default: 320)")
    parser.add_argument("--repeats", type=count, default=3, help="timed calls, whose median counts (default: 3)")
    parser.add_argument("--threads", type=count, default=1, help="default: 1")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    return parser.parse_args()


def measured(config: str, extent: str, formats: list[str], size: int, repeats: int) -> list[dict[str, Any]]:
    """One row for each format of a detector; prints them."""
    subject, rows, start = subject_of(config, size), [], time.perf_counter()
    free = EXTENTS[extent]
    formats = [name for name in formats if not (free and FORMATS[name].is_fixed)]
    with tempfile.TemporaryDirectory() as folder:
        for row in export(subject, formats, Path(folder), Extent((size, size), 1, free), repeats=repeats):
            largest, mean, missed = row.errors or (None, None, None)
            rows.append(
                {"config": config, "extent": extent, "format": row.name, "refused": row.refused}
                | {"mib": row.mib and round(row.mib, 1)}
                | {"objects": row.objects, "missed": missed, "max_error": largest, "mean_error": mean}
                | {"ms": row.ms, "torch_ms": row.torch_ms, "ratio": row.ratio}
                | {"inputs": [list(shape) for shape in row.sizes]}
            )
            figures = row.refused or f"{row.objects} {missed:.4f} {largest:.1e} {row.ratio}x"
            print(config, extent, row.name, figures, flush=True)
    print(f"{config}: {time.perf_counter() - start:.0f} s", flush=True)
    return rows


def subject_of(config: str, size: int) -> Subject:
    """A detector of random weights, whose heads are spread on a photograph."""
    cfg = load_config(config, {"model.backbone.pretrained": None, "data_root": "none"})
    task = task_for(cfg)
    torch.manual_seed(0)
    model = moved(task.build_model(cfg)).eval()
    net = task.exported(model).eval()
    found = statistics_of(model, "the config")
    image = batch_of(photographs()[0], (1, 3, size, size), found.mean, found.std)
    backbone = next(module for module in net.modules() if isinstance(module, PyramidBackbone))
    settle(backbone, lambda: net(image))  # and not the head, some of whose maps hardly vary
    spread(net, lambda: net(image))
    fields = dict(outputs=task.export_outputs(model), free=task.exported_free)
    return Subject(net, config, task.name, found, None, (size, size), tuple(task.class_names(cfg)), **fields)


@torch.no_grad()
def spread(model: nn.Module, run: Callable[[], Any]) -> None:
    """Scales the last layers of a detector's heads, in place. ``run`` is a pass of the model."""
    hooks = []
    for path, module in model.named_modules():
        named = [name for name in LAST if name in path.split(".")]
        if named and hasattr(module, "weight"):
            hooks.append(module.register_forward_hook(Scale(LAST[named[0]])))
    run()
    for hook in hooks:
        hook.remove()


class Scale:
    """A hook that scales a layer at its first pass, so that its outputs have this standard deviation."""

    def __init__(self, deviation: float):
        self.deviation, self.done = deviation, False

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if self.done:
            return None
        self.done = True
        module.weight.data *= self.deviation / output.std().clamp_min(1e-6)
        if module.bias is not None:
            module.bias.data.zero_()
        return module.forward(*args)


if __name__ == "__main__":
    run_tool(main)
