"""Times whole models on one image, by PyTorch, by PyTorch with norms folded, by ONNX Runtime and by OpenVINO.

python tools/bench/benchmark_runtimes.py MODEL [MODEL ...] --out FIGURES.json [--image IMAGE] [--threads 1]

A model is a checkpoint of this project, the name of published weights, or an exported file. The time is that of the
network and of the steps after it, without reading the image and preparing it.
"""

import ziggurat.engine.start  # noqa: F401

import copy
import os
from pathlib import Path
from typing import Any

import torch

from backbones import PyramidBackbone, UserError
from backbones.files import is_exported, write_json
from ziggurat.engine import Predictor
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.photographs import photographs
from ziggurat.engine.timing import in_turn, seconds
from ziggurat.engine.tool_options import RUNTIMES, count

CPU = torch.device("cpu")
PACKAGES = ("onnx", "onnxruntime", "openvino")


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    output_folder(args.out.parent)
    rows = []
    for given in args.models:
        image = args.image or photographs()[0][0]
        predictors, refused = predictors_of(given)
        first = next(iter(predictors.values()))
        sample = first.sample(image)
        if isinstance(sample, UserError):
            raise sample
        timers = {name: timer_of(predictor, sample) for name, predictor in predictors.items()}
        views = sample["inputs"]
        size = list((views[0] if isinstance(views, list) else views).shape)
        row = {"model": str(given), "task": first.task.name, "input": size, "refused": refused}
        rows.append(row | {"times": in_turn(timers, args.repeats)})
        print(row["model"], *(f"{name} {of['ms']} ms ({of['ratio']}x)" for name, of in rows[-1]["times"].items()))
        write_json(args.out, {"machine": machine(CPU, *PACKAGES) | {"threads": args.threads}, "rows": rows})
    print(f"figures: {args.out}")


def parse_args() -> Any:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--image", type=Path, help="default: a photograph of scikit-image")
    parser.add_argument("--repeats", type=count, default=10, help="timed calls, whose median counts (default: 10)")
    parser.add_argument("--threads", type=count, default=os.cpu_count(), help="default: one for each core")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    return parser.parse_args()


def predictors_of(given: str) -> tuple[dict[str, Predictor], dict[str, str]]:
    """The predictors of a model by what computes them, and why others cannot."""
    if is_exported(given):
        return {"file": Predictor(given)}, {}
    predictors = {"PyTorch": Predictor(given)}
    fused = copy.copy(predictors["PyTorch"])
    fused.model = copy.deepcopy(fused.model)
    for module in list(fused.model.modules()):
        if isinstance(module, PyramidBackbone):
            module.fuse()
    predictors["PyTorch, folded"], refused = fused, {}
    for runtime in RUNTIMES:
        try:
            predictors[runtime] = Predictor(given, runtime=runtime)
        except UserError as error:
            refused[runtime] = str(error)
    return predictors, refused


def timer_of(predictor: Predictor, sample: dict[str, Any]) -> Any:
    """A function that returns the seconds of one prediction. Each prediction gets a copy of the sample."""

    def timer() -> float:
        given = copy.deepcopy(sample)
        return seconds(lambda: predictor.predict([given]), CPU)

    return timer


if __name__ == "__main__":
    run_tool(main)
