"""Tries every kind of detector and segmenter of mmdet and mmseg with our networks: does it train, does it test?

python tools/heads/heads.py [PATTERN ...] [--processes N] [--seconds S] [--gib G]

Every row is a config that the packages carry, with VAN-B0 in the place of its network. In a process of its own, the
model trains one step and predicts, on the CPU, on small images. The outcome is docs/heads.json. The page docs/heads.md
is made from this file. An interrupted run goes on where it stopped. With PATTERNs, such as "mmdet::atss/*", only these
rows are tried, printed, and not written. The status is 1 if a model fails that works with its own network, or that
worked in the table before.
"""

import argparse
import json
import logging
import sys
import time
import warnings
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
import trial
from choose import choose, versions
from pool import run_each
from unlike import unlike

import detection  # noqa: F401
import segmentation  # noqa: F401
from backbones import UserError
from backbones.files import write_json
from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "docs/heads.json"
PROGRESS = ROOT / "work_dirs/heads.json"


def main() -> int:
    args = parse_args()
    be_quiet()
    before = {row["config"]: row for row in json.loads(KEPT.read_text())["rows"]} if KEPT.is_file() else {}
    table = begin(args)
    waiting = [row for row in table["rows"] if "trains" not in row]
    by_name = {row["config"]: row for row in waiting}
    start = time.monotonic()
    outcomes = run_each(trial.run, list(by_name), args.processes, args.seconds, args.gib)
    for done, (name, outcome) in enumerate(outcomes, 1):
        by_name[name] |= dict(trains=False, tests=False) | outcome
        print(f"{done}/{len(waiting)} {time.monotonic() - start:.0f} s  {shown(by_name[name])}", flush=True)
        if not args.patterns:
            write_json(PROGRESS, table)
    if not args.patterns:
        write_json(KEPT, table)
        PROGRESS.unlink(missing_ok=True)
    return report(table["rows"], before)


def be_quiet() -> None:
    """Sets the process up for many others that share the cores and print nothing."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="try only configs of these names, with *")
    parser.add_argument("--processes", type=int, default=1, help="rows at the same time (default: 1)")
    parser.add_argument("--seconds", type=float, default=900, help="time limit of a row (default: 900)")
    parser.add_argument("--gib", type=float, default=6, help="memory limit of a row (default: 6)")
    args = parser.parse_args()
    for name in ("processes", "seconds", "gib"):
        if not getattr(args, name) > 0:
            raise UserError(f"--{name} is {getattr(args, name)}; allowed: numbers above 0")
    return args


def begin(args: argparse.Namespace) -> dict[str, Any]:
    """The table to fill: the interrupted run's, or a new one. The interrupted run's failures are tried again.

    Rows that ``unlike.py`` leaves out are filled already.
    """
    table = json.loads(PROGRESS.read_text()) if PROGRESS.is_file() else {}
    if args.patterns or table.get("versions") != versions():
        table = dict(versions=versions(), rows=choose())
    if args.patterns:
        table["rows"] = [row for row in table["rows"] if any(fnmatch(row["config"], name) for name in args.patterns)]
        if not table["rows"]:
            raise UserError(f"no row is named {' or '.join(args.patterns)}; allowed: names of docs/heads.json, with *")
    for row in table["rows"]:
        reason = unlike(row["config"]).get("why")
        if "why" in row or reason:
            for key in ("trains", "tests", "why", "own", "arch"):
                row.pop(key, None)
        if reason:
            row |= dict(trains=False, tests=False, why=[reason])
    return table


def report(rows: list[dict[str, Any]], before: dict[str, dict[str, Any]]) -> int:
    """Prints the counts, and the rows that are worse than they should be. Returns 1 if there are any, else 0."""
    trained, tested = (sum(row[key] for row in rows) for key in trial.STEPS)
    print(f"{len(rows)} configs: {trained} train, {tested} test")
    unexpected = [row for row in rows if is_worse(row, before.get(row["config"], {}))]
    for row in unexpected:
        print(f"unexpected: {shown(row)}", file=sys.stderr)
    return int(bool(unexpected))


def is_worse(row: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a model fails at what it does with its own network, or did before."""
    if unlike(row["config"]).get("why"):
        return False
    return any(not row[step] and (row.get("own") in (step, "both") or before.get(step)) for step in trial.STEPS)


def shown(row: dict[str, Any]) -> str:
    words = [word for word in ("trains", "tests") if row[word]] or ["fails"]
    return f"{row['config']}: {', '.join(words)}" + "".join(f"; {why}" for why in row.get("why", ()))


if __name__ == "__main__":
    run_tool(main)
