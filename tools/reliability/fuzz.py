"""Gives thousands of odd inputs to everything that reads inputs, and counts what becomes of them.

python tools/reliability/fuzz.py [--inputs 10000] [--only images] [--seed 0] [--out docs/reliability/fuzz.json]
python tools/reliability/fuzz.py --only images --again 123    # one input, in this process

An input ends as a result, as one line that says what is wrong, or as a fault: a traceback, more than ten seconds, a
crash, or a result that an independent look contradicts. The inputs of faults are kept in work_dirs/fuzz.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from backbones.errors import unknown
from backbones.files import write_json
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.tool_options import count

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = Path("work_dirs/fuzz")
INPUTS = 10_000
# Of each target: its share of the inputs, in parts of a hundred, and how many inputs one child takes. A target that has
# a list of inputs runs the whole list.
SHARES = {
    "checkpoints": (10, 40),
    "images": (25, 60),
    "masks": (8, 60),
    "coco": (20, 15),
    "panoptic": (7, 10),
    "maps": (4, 10),
    "own_data": (5, 60),
    "configs": (3, 8),
    "leaves": (0, 8),
    "options": (4, 12),
    "api": (11, 20),
    "forward": (3, 20),
}


def main() -> int:
    args = parse_args()
    if args.only is not None and args.only not in SHARES:
        raise unknown("target", args.only, SHARES)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork has none of its parent's threads
    folder = KEPT / f"run_{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        makers = target_makers(folder.resolve(), demo_data(folder.resolve() / "data"))
        if args.again is not None:
            return repeat(makers[args.only], args.only, args.seed, args.again)
        names = [args.only] if args.only else list(SHARES)
        asked = args.inputs or INPUTS
        numbers = {name: asked if args.only else max(1, asked * SHARES[name][0] // 100) for name in names}
        numbers |= dict.fromkeys({"leaves"} & set(names), args.inputs if args.only else None)
        rows = [run_target(makers[name], name, args.seed, numbers[name]) for name in names]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.out:
        write_json(args.out, described(rows, args.seed, Path(args.out)))
    return int(any(row[kind] for row in rows for kind in ("tracebacks", "hangs", "crashes", "wrong")))


def demo_data(out: Path) -> Path:
    counts = ["--num-train", "4", "--num-val", "2", "--digits-train", "40", "--digits-val", "4"]
    command = [sys.executable, str(ROOT / "tools/make_demo_data.py"), "--out", str(out), *counts]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def target_makers(folder: Path, data: Path) -> dict[str, Callable]:
    """A function that makes each target. They write below ``folder``, and read the demo's data."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    from fuzz_api import Api, Forward
    from fuzz_configs import Configs, Leaves, Options
    from fuzz_files import Checkpoints, Images, Masks
    from fuzz_labels import Coco, Maps, Panoptic
    from fuzz_own import OwnData

    def made(name: str) -> Path:
        (folder / name).mkdir(exist_ok=True)
        return folder / name

    return {
        "checkpoints": lambda: Checkpoints(made("checkpoints")),
        "images": lambda: Images(made("images")),
        "masks": lambda: Masks(made("masks")),
        "coco": lambda: Coco(data / "coco", made("coco")),
        "panoptic": lambda: Panoptic(data / "coco", made("panoptic")),
        "maps": lambda: Maps(data / "coco", made("maps")),
        "own_data": lambda: OwnData(made("own_data")),
        "configs": lambda: Configs(data, made("configs")),
        "leaves": lambda: Leaves(data, made("leaves")),
        "options": lambda: Options(data, made("options")),
        "api": lambda: Api(made("api")),
        "forward": lambda: Forward(),
    }


def run_target(make: Callable, name: str, seed: int, inputs: int | None) -> dict:
    """Runs the inputs of a target: its row of the table. Faults are kept in ``work_dirs/fuzz/TARGET``.

    Args:
        make, name, seed: of the target.
        inputs: their number; None for all of a list.
    """
    from fuzz_child import CLEAR, KINDS, RESULTS, input_of, run_all

    start, target, counts = time.monotonic(), make(), Counter()
    whole = len(getattr(target, "cases", ())) or inputs
    inputs = min(inputs or whole, whole)
    kept = KEPT / name
    shutil.rmtree(kept, ignore_errors=True)
    for outcome in run_all(target, name, seed, inputs, SHARES[name][1]):
        counts[outcome.kind] += 1
        if outcome.kind not in (RESULTS, CLEAR):
            kept.mkdir(parents=True, exist_ok=True)
            given = input_of(target, name, seed, outcome.index)
            if isinstance(given, bytes):
                (kept / f"{outcome.index}.bin").write_bytes(given)
            text = f"{outcome.kind}, seed {seed}\n{given!r}\n\n{outcome.detail}\n"
            (kept / f"{outcome.index}.txt").write_text(text, errors="backslashreplace")
    row = dict(target=name, inputs=inputs, **{kind: counts[kind] for kind in KINDS})
    seconds = time.monotonic() - start
    print(", ".join(f"{key} {value}" for key, value in row.items()), f"({seconds:.0f} s)", flush=True)
    return row


def repeat(make: Callable, name: str, seed: int, index: int) -> int:
    """Runs one input in this process, and prints what becomes of it."""
    from fuzz_child import CLEAR, RESULTS, input_of, outcome_of

    target = make()
    given = input_of(target, name, seed, index)
    print(repr(given)[:2000], flush=True)
    kind, detail = outcome_of(target, given)
    print(f"{kind}: {detail}")
    return int(kind not in (RESULTS, CLEAR))


def described(rows: list[dict], seed: int, file: Path) -> dict:
    """The figures as JSON. Rows of other targets stay as they are in the file, where it exists."""
    import torch

    from ziggurat.engine.machine import machine

    packages = ("pillow", "opencv-python-headless", "pycocotools", "numpy", "onedl-mmengine", "onedl-mmdetection")
    earlier = json.loads(file.read_text())["rows"] if file.is_file() else []
    by_name = {row["target"]: row for row in [*earlier, *rows]}
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(torch.device("cpu"), *packages, "onedl-mmsegmentation"),
        "seed": seed,
        "rows": [by_name[name] for name in SHARES if name in by_name],
    }


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--inputs", type=count, help=f"how many inputs, over all targets without a list; default: {INPUTS}"
    )
    parser.add_argument("--only", metavar="TARGET", help=f"one target alone: {', '.join(SHARES)}")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs")
    parser.add_argument("--again", type=int, metavar="INDEX", help="with --only: run one input in this process")
    parser.add_argument("--out", metavar="FILE", help="write the figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
