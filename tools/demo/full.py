"""Trains every head on every family for a short while on the demo data; `make demo-full` calls this tool.

python tools/demo/full.py [--heads PATTERN ...] [--archs PATTERN ...] [--iterations 40] [--work-dir DIR] [--data DIR]
python tools/demo/full.py --page JSON                   print the page docs/demo_full.md of a report, and train nothing

A cell is a head on an arch, trained and tested by a process of its own, in WORK_DIR/cells/HEAD-ARCH. Its config is a
leaf of the family with narrow heads. Each arch first learns single digits, and its other cells start from these
weights. The same call goes on where an earlier one stopped: finished cells are kept, and failed ones run again.
WORK_DIR/report.json and WORK_DIR/report.html have all finished cells. The exit status is 1 if a cell failed.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from demo import MAX_THREADS, ROOT, Step, check_data_folder, cores, data_commands, relative, run_step, tail
from full_cell import FIGURES, LOG, train_apart
from full_heads import CLASSIFIER, HEADS
from full_page import page, write_report
from full_plan import BATCH, DIGIT_SIDE, SCORED, SIDE, WINDOW, Cell, as_text, leaf_of, options_of, plan

from backbones.errors import UserError
from backbones.files import write_json
from ziggurat.engine.cli import Parser, run_tool

EXIT_CELL_FAILED = 1
SET = os.environ.get("OMP_NUM_THREADS", "")
THREADS = int(SET) if SET.isdigit() else min(MAX_THREADS, cores())


def main() -> int:
    args = parse_args()
    if args.page:
        print(page(read_report(args.page)), end="")
        return 0
    args.work_dir, args.data = args.work_dir.absolute(), args.data.absolute()
    cells = plan(args.heads, args.archs)
    check_data_folder(args.data)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logs = args.work_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    making = data_commands(args.data)
    if making and not run_step(Step("data", "", lambda: making), "make the demo data", logs):
        return EXIT_CELL_FAILED

    shown = list(dict.fromkeys([*plan([], []), *cells]))
    failed = 0
    for number, cell in enumerate(cells, 1):
        headline = f"[{number}/{len(cells)}] {HEADS[cell.head].title}, {cell.arch}"
        order = order_of(cell, args)
        if is_done(args.work_dir, cell, order):
            print(f"{headline}: there already", flush=True)
            continue
        failed += not run_cell(cell, order, headline, args.work_dir)
        write_report(args.work_dir, settings(args), [row_of(other, args) for other in shown])
    write_report(args.work_dir, settings(args), [row_of(other, args) for other in shown])
    print(f"{len(cells) - failed} of {len(cells)} cells have their figures. Open {relative(args.work_dir)}/report.html")
    return EXIT_CELL_FAILED if failed else 0


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="+", default=[], metavar="PATTERN", help="default: all; e.g. 'mask*' dino")
    parser.add_argument(
        "--archs", nargs="+", default=[], metavar="PATTERN", help="default: the smallest of each family; e.g. 'pvig_*'"
    )
    parser.add_argument("--iterations", type=steps, default=40, help="of each dense training (default: 40)")
    parser.add_argument(
        "--work-dir", type=Path, default=ROOT / "work_dirs/demo-full", help="default: work_dirs/demo-full"
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT / "data/demo", help="data of the demo, made if missing (default: data/demo)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--page", type=Path, metavar="JSON", help="print the page of a report, and train nothing")
    return parser.parse_args()


def steps(text: str) -> int:
    if not text.isdigit() or int(text) < WINDOW:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: integers from {WINDOW}")
    return int(text)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the words of the pages name."""
    sizes = {"digit_side": DIGIT_SIDE, "batch": BATCH, "side": SIDE, "scored": SCORED, "window": WINDOW}
    return {"iterations": args.iterations, "device": args.device, "threads": THREADS, **sizes}


def folder_of(work_dir: Path, cell: Cell) -> Path:
    return work_dir / "cells" / cell.name


def order_of(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """What full_cell.py is to do. A cell with another order than the one it was trained by is trained again."""
    weights = None if cell.head == CLASSIFIER else weights_of(cell, args.work_dir)
    return {
        "leaf": str(leaf_of(cell)),
        "options": as_text(options_of(cell, args.data, weights, args.iterations)),
        "device": args.device,
        "metrics": HEADS[cell.head].metrics,
        "keep": cell.head == CLASSIFIER,
    }


def weights_of(cell: Cell, work_dir: Path) -> Path:
    """The checkpoint of the classifier that a cell starts from."""
    return folder_of(work_dir, Cell(CLASSIFIER, cell.arch)) / "run/epoch_1.pth"


def run_cell(cell: Cell, order: dict[str, Any], headline: str, work_dir: Path) -> bool:
    """Trains and tests a cell. Returns False after a failure, whose reason the cell's file of figures then has."""
    folder = folder_of(work_dir, cell)
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "cell.json", order)
    if cell.head != CLASSIFIER and not weights_of(cell, work_dir).is_file():
        reason = f"there are no weights, as the classifier of {cell.arch} failed"
        print(f"{headline}: {reason}", flush=True)
        write_json(folder / FIGURES, {"failure": reason})
        return False
    start = time.monotonic()
    status = train_apart(folder, order, THREADS)
    if status == 0:
        print(f"{headline}: {time.monotonic() - start:.0f} s", flush=True)
        return True
    reason = (tail(folder / LOG, 1) or ["no word in its log"])[-1].strip().removeprefix("error: ")
    reason = f"ended by signal {-status} after: {reason}" if status < 0 else reason
    print(f"{headline}: failed, {reason}", flush=True)
    write_json(folder / FIGURES, {"failure": reason})
    return False


def found(work_dir: Path, cell: Cell, order: dict[str, Any]) -> dict[str, Any]:
    """The figures of a cell, or its failure. Empty if the cell was not trained by this order, or not to its end."""
    folder = folder_of(work_dir, cell)
    try:
        if json.loads((folder / "cell.json").read_text()) != order:
            return {}
        return json.loads((folder / FIGURES).read_text())
    except FileNotFoundError:
        return {}


def is_done(work_dir: Path, cell: Cell, order: dict[str, Any]) -> bool:
    figures = found(work_dir, cell, order)
    return bool(figures) and "failure" not in figures


def row_of(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """The cell in the report. Without figures and failure the cell was not run."""
    order = order_of(cell, args)
    return {"head": cell.head, "arch": cell.arch, "leaf": order["leaf"], **found(args.work_dir, cell, order)}


def read_report(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: no report of this tool ({error})") from None


if __name__ == "__main__":
    run_tool(main)
