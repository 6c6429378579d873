"""Tests a model three times on its test data: by PyTorch, as an ONNX file, and as a copy of that in 8-bit integers.

python tools/bench/benchmark_int8.py CONFIG CHECKPOINT --calibration TRAINING_IMAGES --out FIGURES.json [--size 128]
    [--cfg-options data_root=DIR]

The metrics are those of tools/test.py. The figures of other models in FIGURES.json stay.
"""

import ziggurat.engine.start  # noqa: F401

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader

from backbones.export import Extent
from backbones.files import write_json
from backbones.image_files import list_images
from ziggurat.engine import Predictor
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.exporting import export, subject_of
from ziggurat.engine.image_batches import collate_name
from ziggurat.engine.int8 import chosen
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import add_config_options, count

PACKAGES = ("onnx", "onnxruntime")


def main() -> None:
    args = parse_args()
    images = chosen(list_images(args.calibration), args.calibration_images)
    output_folder(args.out.parent)
    report = json.loads(args.out.read_text()) if args.out.is_file() else {"rows": []}
    cfg = load_config(args.config, args.cfg_options)
    predictor = Predictor(cfg, args.checkpoint, device="cpu")
    subject = subject_of(predictor, args.checkpoint)
    size = (args.size, args.size) if args.size else subject.size
    extent = Extent(size, 1, (), subject.backbone.in_chans)
    name = Path(args.config).stem
    rows = [{"form": "PyTorch", **metrics_of(predictor.model, predictor, cfg)}]
    with tempfile.TemporaryDirectory() as folder:
        for row in export(subject, ["onnx"], Path(folder), extent, repeats=1, calibration=images):
            found = {"form": row.name, "refused": row.refused}
            if row.path:
                found |= metrics_of(Predictor(row.path).model, predictor, cfg)
                found |= {"mib": round(row.mib, 1), "agreement": row.agreement}
            rows.append(found)
    told = {"model": name, "task": predictor.task.name, "arch": subject.backbone.arch, "size": list(size)}
    told |= {"calibration": len(images)}
    report["machine"] = machine(torch.device("cpu"), *PACKAGES)
    report["rows"] = [row for row in report["rows"] if row["model"] != name] + [told | row for row in rows]
    write_json(args.out, report)
    for row in rows:
        print(row)
    print(f"figures: {args.out}")


def parse_args() -> Any:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--calibration", nargs="+", required=True, metavar="IMAGE_OR_FOLDER", help="training images")
    parser.add_argument("--calibration-images", type=count, default=128, metavar="N", help="default: 128")
    parser.add_argument("--size", type=count, help="side of the files' input (default: the model's)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    add_config_options(parser)
    return parser.parse_args()


@torch.no_grad()
def metrics_of(model: Any, predictor: Predictor, cfg: Any) -> dict[str, Any]:
    """The metrics of a model on the test data of a config, and the number of images."""
    task = predictor.task
    dataset = task.build_dataset(cfg, "test")
    loader = DataLoader(dataset, batch_size=1, collate_fn=FUNCTIONS.get(collate_name(cfg)))
    with task.scoped(cfg):
        evaluator = Evaluator(copy.deepcopy(cfg.test_evaluator))
    evaluator.dataset_meta = dataset.metainfo
    for batch in loader:
        evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
    found = evaluator.evaluate(len(dataset))
    return {"metrics": {name: float(value) for name, value in found.items()}, "images": len(dataset)}


if __name__ == "__main__":
    run_tool(main)
