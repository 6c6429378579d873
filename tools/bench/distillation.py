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
import torch.nn.functional as F
from benchmark import machine
from torch import Tensor

from backbones import FeatureExtractor, UserError
from backbones.files import replaced_file
from backbones.images import SUFFIXES
from classification.distill import NAME
from engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parents[2]
ARCH = "van_b0"
CLASSIFIER = "classification/configs/demo/van_b0_digits.py"
DISTILLER = "classification/configs/demo/van_b0_distill_digits.py"
DETECTOR = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
NEIGHBOURS = 20
SIDE = 48  # pixels, as in the configs of the digits
PAGE = """# Distillation without labels

Made by `python tools/bench/distillation.py --page docs/benchmarks/distillation.json`, from a run on the demo data.

A student learns the features of a frozen teacher on images without labels. Student and teacher see the same crops. A
linear head turns the student's pooled features into the teacher's, and another head does so at each place of the last
map. The loss is 1 - cosine similarity plus the mean squared error, against features with mean 0 and variance 1.

```
python tools/distill.py --student van_b0 --teacher timm:vit_small_patch14_dinov2 --teacher-size 224 --data FOLDER
python tools/train.py detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py \\
    --cfg-options model.backbone.pretrained=work_dirs/van_b0_distill/backbone.safetensors
```

The teacher is a model of timm, one of our archs, a name of our weights, or a checkpoint of a run here.
`--teacher-weights FILE` loads a model of timm from a file, for a machine without a network. FOLDER may hold its images
at any depth. The student's images are normalised by its family's statistics, the teacher's by the teacher's own.

## On the demo data

The teacher is a VAN-B0 that learned the digits with labels. The student is another VAN-B0, which saw the same {images}
pictures without labels. kNN compares {neighbours} neighbours on {val} held-out digits. Mask R-CNN trains for {iters}
iterations on scenes of digits.

| start | kNN, top-1 | Mask R-CNN, box AP50 | mask AP50 |
|:-|-:|-:|-:|
{rows}

Measured on {device}, with Python {python}, torch {torch} and timm {timm}. One seed; a difference of a few hundredths of
AP is within what another seed changes.
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
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/distillation.json", help="file to write")
    parser.add_argument("--page", metavar="JSON", help="print the page of a file, and measure nothing")
    return parser.parse_args()


def compare(work_dir: Path, data: Path) -> dict[str, Any]:
    """The figures. A run that has ended is not repeated."""
    digits, teacher, student = data / "digits", work_dir / "teacher", work_dir / "distilled"
    train("tools/train.py", CLASSIFIER, teacher, f"data_root={digits}")
    words = ["--student", ARCH, "--teacher", last(teacher), "--data", digits / "train", "--config", DISTILLER]
    train("tools/distill.py", *words, student)
    starts = {"random weights": None, "distilled without labels": student / NAME, "teacher, with labels": last(teacher)}
    results: dict[str, dict[str, float]] = {}
    for start, weights in starts.items():
        results[start] = {"knn_top1": knn(weights, digits)}
        if start.startswith("teacher"):
            continue
        run = work_dir / f"detection-{start.split()[0]}"
        train("tools/train.py", DETECTOR, run, f"data_root={data / 'coco'}", f"model.backbone.pretrained={weights}")
        metrics = run / "metrics.json"
        if not metrics.is_file():
            words = [last(run), "--out", metrics, "--work-dir", run / "test", "--device", "cpu"]
            call("tools/test.py", DETECTOR, *words, "--cfg-options", f"data_root={data / 'coco'}")
        found = json.loads(metrics.read_text())
        results[start] |= {name: found[f"coco/{name}"] for name in ("bbox_mAP_50", "segm_mAP_50")}
    here = machine(torch.device("cpu")) | {name: version(name) for name in ("timm", "torchvision")}
    counts = {"images": len(pictures(digits / "train")), "val": len(pictures(digits / "val"))}
    return {"machine": here, **counts, "neighbours": NEIGHBOURS, "iterations": iterations(work_dir), "results": results}


def train(tool: str, *words: Any) -> None:
    """Trains in the work dir that is the last of ``words`` before the options, unless a run has ended there."""
    options = [word for word in words if isinstance(word, str) and "=" in word]
    *others, run = [word for word in words if word not in options]
    done = run / "done"
    if not done.is_file():
        changed = ["--cfg-options", *options] if options else []
        call(tool, *others, "--work-dir", run, "--overwrite", "--device", "cpu", *changed)
        done.touch()


def call(*argv: Any) -> None:
    """Runs a tool; UserError if it fails. Its output stays on the console."""
    env = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    if subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, env=env).returncode:
        raise UserError(f"{argv[0]} failed; see its output above")


def last(run: Path) -> Path:
    return run / Path((run / "last_checkpoint").read_text().strip()).name


def iterations(work_dir: Path) -> int:
    return int(last(work_dir / "detection-distilled").stem.split("_")[-1])


def pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def knn(weights: Path | None, digits: Path) -> float:
    """Top-1 in percent of nearest neighbours by cosine similarity. A vote weighs exp(cosine / 0.07).

    Source of the rule: "Unsupervised feature learning via non-parametric instance discrimination", section 3.4.
    """
    torch.manual_seed(0)
    extract = FeatureExtractor(ARCH, out_indices=(-1,), pretrained=weights, short_side=SIDE)
    known, labels = features(extract, digits / "train")
    asked, truth = features(extract, digits / "val")
    nearest = (asked @ known.T).topk(NEIGHBOURS, dim=1)
    votes = torch.zeros(len(asked), int(labels.max()) + 1)
    votes.scatter_add_(1, labels[nearest.indices], (nearest.values / 0.07).exp())
    return round(100 * (votes.argmax(1) == truth).float().mean().item(), 2)


def features(extract: FeatureExtractor, folder: Path) -> tuple[Tensor, Tensor]:
    """Pooled features (N, C) of length 1, and the labels: the names of the folders."""
    paths = pictures(folder)
    found = [extract(paths[i : i + 100])[-1].mean(dim=(2, 3)) for i in range(0, len(paths), 100)]
    return F.normalize(torch.cat(found), dim=1), torch.tensor([int(path.parent.name) for path in paths])


def page(report: dict[str, Any]) -> str:
    rows = []
    for start, found in report["results"].items():
        boxes, masks = (f"{found[name]:.3f}" if name in found else "-" for name in ("bbox_mAP_50", "segm_mAP_50"))
        rows.append(f"| {start} | {found['knn_top1']:.1f} % | {boxes} | {masks} |")
    facts = {name: report[name] for name in ("images", "val", "neighbours")}
    return PAGE.format(rows="\n".join(rows), iters=report["iterations"], **facts, **report["machine"])


if __name__ == "__main__":
    run_tool(main)
