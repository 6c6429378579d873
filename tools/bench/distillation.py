"""Compares a network distilled without labels with its teacher and with random weights, on the demo data.

python tools/bench/distillation.py [--work-dir DIR] [--data DIR] [--out JSON]
python tools/bench/distillation.py --page JSON

A VAN-B0 learns the demo's digits with labels: the teacher. A second VAN-B0 learns the teacher's features on the same
pictures without labels: the student. Teacher, student and random weights are compared by kNN on held-out digits.
Student and random weights then start one Mask R-CNN each. --page prints the page docs/distillation.md of a JSON file.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from backbones import UserError
from backbones.files import replaced_file
from classification.data import ImageFolder
from classification.distill import NAME
from classification.frozen.extract import features_of
from classification.frozen.knn import knn
from classification.frozen.source import Source
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.machine import machine

ROOT = Path(__file__).resolve().parents[2]
ARCH = "van_b0"
CLASSIFIER = "classification/configs/demo/van_b0_digits.py"
DISTILLER = "classification/configs/demo/van_b0_distill_digits.py"
DETECTOR = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
NEIGHBOURS = 20
METRICS = {"box_ap50": "bbox_mAP_50", "mask_ap50": "segm_mAP_50"}
SIDE = 48  # pixels, as in the configs of the digits
PAGE = """# Distillation without labels

Made by `python tools/bench/distillation.py --page docs/distillation.json`, from a run on the demo data.

A student learns the features of a frozen teacher on images without labels. Student and teacher see the same crops. A
linear head turns the student's pooled features into the teacher's, and another head does so at each place of the last
map. The loss is 1 - cosine similarity plus the mean squared error, against features with mean 0 and variance 1.

```
python tools/distill.py --student van_b0 --teacher timm:vit_small_patch14_dinov2 --teacher-size 224 --data FOLDER
python tools/train.py CONFIG --cfg-options model.backbone.pretrained=work_dirs/van_b0_distill/backbone.safetensors
```

The teacher is a model of timm, one of our archs, a name of our weights, or a checkpoint of a run here.
`--teacher-weights FILE` loads a model of timm from a file, for a machine without a network. FOLDER may hold its images
at any depth. The student's images are normalised by its family's statistics, the teacher's by the teacher's own.

## On the demo data

The teacher is a VAN-B0 that learned the digits with labels. The student is another VAN-B0, which saw the same {train}
pictures without labels. kNN asks {neighbours} neighbours about each of {val} held-out digits. Mask R-CNN then starts
from random weights or from the student, on scenes of digits. The other columns are its AP50 on held-out scenes, after
so many iterations.

{table}

One run of each kind, with one seed, on {device} with Python {python}, torch {torch} and timm {timm}.
"""


def main() -> None:
    args = parse_args()
    if args.page:
        print(page(json.loads(Path(args.page).read_text())), end="")
        return
    if not (args.data / "demo_data.json").is_file():
        raise UserError(f"no demo data in {args.data}; make them with tools/make_demo_data.py --out {args.data}")
    report = compare(args.work_dir.absolute(), args.data.absolute())
    with replaced_file(args.out) as beside:
        beside.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{args.out}: {json.dumps(report['results'])}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs/distillation", help="folder of the runs")
    parser.add_argument("--data", type=Path, default=ROOT / "data/demo", help="the demo data (default: data/demo)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/distillation.json", help="file to write")
    parser.add_argument("--page", metavar="JSON", help="print the page of a file, and measure nothing")
    return parser.parse_args()


def compare(work_dir: Path, data: Path) -> dict[str, Any]:
    """The figures. A run that has ended is not repeated."""
    digits, teacher, student = data / "digits", work_dir / "teacher", work_dir / "distilled"
    train(teacher, "tools/train.py", CLASSIFIER, f"data_root={digits}")
    words = ["--student", ARCH, "--teacher", last(teacher), "--data", digits / "train", "--config", DISTILLER]
    train(student, "tools/distill.py", *words)
    starts = {"random weights": None, "distilled without labels": student / NAME, "teacher, with labels": last(teacher)}
    results: dict[str, dict[str, Any]] = {}
    for start, weights in starts.items():
        results[start] = {"knn_top1": knn_top1(weights, digits, work_dir / "features.safetensors")}
    for start in list(starts)[:2]:
        run = work_dir / f"detection-{start.split()[0]}"
        options = f"data_root={data / 'coco'}", f"model.backbone.pretrained={starts[start]}"
        train(run, "tools/train.py", DETECTOR, *options)
        results[start] |= validations(run)
    here = machine(torch.device("cpu")) | {name: version(name) for name in ("timm", "torchvision")}
    counts = {split: len(ImageFolder(digits, split, {}).samples) for split in ("train", "val")}
    return {"machine": here, "images": counts, "neighbours": NEIGHBOURS, "results": results}


def train(run: Path, tool: str, *words: Any) -> None:
    """Trains in a work dir, unless a training has ended there. Words with ``=`` are options of the config."""
    done = run / "done"
    if done.is_file():
        return
    options = [word for word in words if "=" in str(word)]
    argv = [tool, *(word for word in words if word not in options), "--work-dir", run, "--overwrite", "--device", "cpu"]
    argv += ["--cfg-options", *options] if options else []
    env = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    if subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, env=env).returncode:
        raise UserError(f"{tool} failed; see its output above")
    done.touch()


def last(run: Path) -> Path:
    """The last checkpoint of a run, wherever the run lies now."""
    return run / Path((run / "last_checkpoint").read_text().strip()).name


def validations(run: Path) -> dict[str, dict[str, float]]:
    """Box and mask AP50 on held-out scenes, by the iteration of the validation."""
    log = max(run.glob("*/vis_data/scalars.json"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows = [row for row in rows if "coco/bbox_mAP_50" in row]
    return {name: {str(row["step"]): row[f"coco/{key}"] for row in rows} for name, key in METRICS.items()}


def knn_top1(weights: Path | None, digits: Path, cache: Path) -> float:
    """Top-1 in percent, as tools/knn.py computes it."""
    source = Source(str(weights or ARCH), digits, input_size=SIDE, crop_pct=1.0)
    found = features_of(source, cache, overwrite=True)
    (row,) = knn(found.train, found.val, len(source.classes), [NEIGHBOURS])
    return round(row["top1"], 2)


def page(report: dict[str, Any]) -> str:
    """The page docs/distillation.md."""
    steps = list(report["results"]["random weights"]["box_ap50"])
    columns = [f"{name.replace('_ap50', ' AP50')}, {step}" for name in METRICS for step in steps]
    lines = [f"| start | kNN, top-1 | {' | '.join(columns)} |", f"|:-|-:|{'-:|' * len(columns)}"]
    for start, found in report["results"].items():
        figures = [f"{found[name][step]:.3f}" if name in found else "" for name in METRICS for step in steps]
        lines.append(f"| {start} | {found['knn_top1']:.1f} % | {' | '.join(figures)} |")
    facts = {"table": "\n".join(lines), "neighbours": report["neighbours"], **report["images"], **report["machine"]}
    return PAGE.format(**facts)


if __name__ == "__main__":
    run_tool(main)
