"""Times how long the command and imports take to start, each in a fresh process, in turns.

python tools/bench/benchmark_start.py [--repeats 7] [--out docs/benchmarks/start.json]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from backbones.files import write_json
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import count

STARTS = {
    "python": ["-c", "pass"],
    "ziggurat --help": ["-m", "ziggurat", "--help"],
    "ziggurat complete": ["-m", "ziggurat", "complete", "train", "mask"],
    "import torch": ["-c", "import torch"],
    "import backbones": ["-c", "import backbones"],
    "import ziggurat.engine": ["-c", "import ziggurat.engine"],
}


def main() -> None:
    args = parse_args()
    seconds = {name: {"wall_s": [], "cpu_s": []} for name in STARTS}
    for _ in range(args.repeats):
        for name, arguments in STARTS.items():
            wall, cpu = timed(arguments)
            seconds[name]["wall_s"].append(wall)
            seconds[name]["cpu_s"].append(cpu)
    medians = {
        name: {kind: round(statistics.median(values), 3) for kind, values in kinds.items()}
        for name, kinds in seconds.items()
    }
    report = {"machine": machine(torch.device("cpu")), "repeats": args.repeats, "starts": medians}
    print(json.dumps(report, indent=2))
    if args.out:
        write_json(args.out, report)


def timed(arguments: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process of this Python."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=count, default=7, help="processes of each kind (default: 7)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write the medians to")
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
