"""Kills small trainings with SIGKILL, resumes them, and compares them with the uninterrupted ones.

python tools/reliability/kill_test.py [--random 200] [--dense 10] [--times 2] [--out docs/reliability/kills.json]
python tools/reliability/kill_test.py --only TRAINING

A training is killed at random moments, uniform over the time of an uninterrupted one, and at each named point of a
save. Each killed run is resumed with "auto". After each kill all checkpoints must be good, and the last one that was
recorded must be the one to go on from. At the end losses, weights, averaged weights, optimiser and kept files must
equal those of the uninterrupted run, bit for bit. The exit status is 1 if anything does not. Linux only.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from kills import COUNTS, FAULTS, Course
from save_points import POINTS
from trainings import TRAININGS, make_quick
from victims import LINGER, left_behind

from backbones.files import write_json
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.machine import machine


def main() -> int:
    args = parse_args()
    torch.set_num_threads(1)  # a process with threads cannot be forked
    make_quick()
    rows, faults = [], []
    with tempfile.TemporaryDirectory(prefix="kill_test_", ignore_cleanup_errors=True) as place:
        for i, (name, (kills, times)) in enumerate(shares(args).items()):
            row, found = row_of(name, Path(place) / str(i), kills, times, args.seed)
            rows.append(row)
            faults += found
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if args.out:
        if args.only and args.out.exists():
            rows += [row for row in json.loads(args.out.read_text())["rows"] if row["training"] != args.only]
        content = dict(
            date=time.strftime("%Y-%m-%d"),
            machine=machine(torch.device("cpu"), "onedl-mmengine"),
            seed=args.seed,
            linger=LINGER,
            points=list(POINTS),
            rows=sorted(rows, key=lambda row: list(TRAININGS).index(row["training"])),
        )
        write_json(args.out, content)
    return int(bool(faults))


def shares(args: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """For each training the kills at random, and how often it is killed at each point."""
    if args.only:
        return {args.only: (args.random, args.times)}
    by_iterations, by_epochs, detector = TRAININGS
    half = args.random // 2
    return {by_iterations: (args.random - half, args.times), by_epochs: (half, 1), detector: (args.dense, 0)}


def row_of(name: str, place: Path, kills: int, times: int, seed: int) -> tuple[dict[str, Any], Sequence[str]]:
    """The counts of one training that is killed so many times at random, and ``times`` times at each point."""
    began = time.monotonic()
    course = Course(name, place)
    course.kill_at_random(kills, random.Random(f"{seed} {name}"))
    at_random = course.found["kills"]
    points = [(point, nth + 1) for nth in range(times) for point in POINTS]
    unreached = course.kill_at(points)
    course.found["processes_left"] += left_behind(wait=True)
    row = {
        "training": name,
        "seconds": round(course.seconds, 2),
        "steps": len(course.losses),
        "kills_at_random": at_random,
        "kills_at_points": course.found["kills"] - at_random,
        "points_unreached": unreached,
        **{count: course.found[count] for count in COUNTS},
        "most_steps_lost": course.most_lost,
        **{fault: course.found[fault] for fault in FAULTS},
        "faults": course.faults,
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    left = [f"{name}: {row['processes_left']} processes left"] if row["processes_left"] else []
    return row, [*course.faults, *left]


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TRAININGS, metavar="TRAINING", help=f"one of: {'; '.join(TRAININGS)}")
    parser.add_argument("--random", type=int, default=200, help="kills of the classifiers at random moments")
    parser.add_argument("--dense", type=int, default=10, help="kills of the detector at random moments")
    parser.add_argument(
        "--times",
        type=int,
        default=2,
        help="kills at each point: when a run is there the first time, the second, ...",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a JSON file for the counts; with --only the file keeps its rows of other trainings",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
