"""The report of `make demo-full`: a JSON file, an HTML page, and the page docs/demo_full.md."""

from pathlib import Path
from typing import Any

import torch
from full_heads import DIGITS, HEADS, Head
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from report import versions

from backbones.files import replaced_file, write_json

COLUMNS = ["head", "network", "box AP", "box AP50", "mask AP", "mask AP50", "PQ", "mIoU", "top-1"]
COLUMNS += ["first loss", "last loss", "memory MiB", "seconds", "params M"]
PERCENT = ["box_ap", "box_ap50", "mask_ap", "mask_ap50", "pq", "miou", "top1"]  # the columns from "box AP" on
MAIN = ["box_ap50", "pq", "miou", "top1"]  # what the first table shows: of these the one that the head has
NAMES = {"box_ap50": "box AP50", "pq": "PQ", "miou": "mIoU", "top1": "top-1"}
TITLE = "Every head on every family, on the demo data"
MAKING = "`python tools/demo/full.py --page docs/demo_full.json`, from a report of `make demo-full`."
WORDS = """\
Each cell is one process that trains and tests a leaf config of the family, with narrow heads and the family's smallest
network. The classifiers see the demo's single digits once, at {digit_side} pixels, from random weights. Every other
training starts from the classifier of its network. It takes {iterations} steps of {batch} scenes of {side} pixels.
Then {scored} held-out scenes are scored.

The figures of a cell show that the head trains, saves, loads and tests with the family. They rank nothing. The
trainings are far too short for that, heads need different numbers of steps, and there is one seed. A segmenter that
finds background alone has an mIoU below {alone:.1f}, since the other classes count 0. DINO and Mask2Former need many
more steps to find objects.

AP, PQ, mIoU and top-1 are in percent. A loss is the mean of the first or of the last {window} steps. The losses of
different heads are not comparable. Memory is the most that the process held, with all libraries, in training and
testing. The seconds are those of training and testing on {on}; other work on the machine lengthens them.
"""


def write_report(out: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes report.json and report.html into ``out``.

    Args:
        out: an existing folder.
        settings: threads and sizes, which the words of the pages name.
        rows: for each cell head, arch and leaf; and its figures, or the ``failure``, or neither if it was not run.
    """
    machine = versions() | {"vector unit": torch.backends.cpu.get_cpu_capability()}
    report = {"settings": settings, "machine": machine, "cells": rows}
    write_json(out / "report.json", report)
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    with replaced_file(out / "report.html") as beside:
        beside.write_text(templates.get_template("full.html.jinja").render(content(report)))


def page(report: dict[str, Any]) -> str:
    """The page docs/demo_full.md."""
    shown = content(report)
    lines = [f"# {TITLE}", "", f"Made by {MAKING}", "", "\n\n".join(shown["words"]), ""]
    lines += ["## One figure of each cell", "", *markdown(shown["summary"], 2)]
    lines += ["", "## All figures", "", *markdown(shown["table"], 2)]
    for title, notes in shown["notes"].items():
        lines += ["", f"## {title}", "", *(f"- {note}" for note in notes)]
    machine = ", ".join(f"{name} {version}" for name, version in report["machine"].items())
    return "\n".join([*lines, "", f"{machine}."]) + "\n"


def markdown(rows: list[list[str]], texts: int) -> list[str]:
    """A table, whose first row is the header. The first columns are texts, the others numbers."""
    header, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [header, f"|{':-|' * texts}{'-:|' * (len(rows[0]) - texts)}", *body]


def content(report: dict[str, Any]) -> dict[str, Any]:
    """What both pages show: title, words, the two tables with their headers, and the cells without figures."""
    threads = report["settings"]["threads"]
    cells = report["cells"]
    words = WORDS.format(
        **report["settings"], on=f"{threads} thread{'s' * (threads > 1)}", alone=100 / (1 + len(DIGITS))
    )
    notes = {
        "Failed": [f"{named(c)}: {c['failure']}" for c in cells if "failure" in c],
        "Not run": [named(c) for c in cells if "failure" not in c and "seconds" not in c],
    }
    return {
        "title": TITLE,
        "words": words.strip().split("\n\n"),
        "summary": summary(cells),
        "table": [COLUMNS, *(figures(cell) for cell in cells if "seconds" in cell)],
        "notes": {title: lines for title, lines in notes.items() if lines},
        "machine": report["machine"],
    }


def named(cell: dict[str, Any]) -> str:
    return f"{HEADS[cell['head']].title}, {cell['arch']}"


def figures(cell: dict[str, Any]) -> list[str]:
    """A row of the table of all figures."""
    row = [HEADS[cell["head"]].title, f"`{cell['arch']}`"]
    row += [percent(cell, name) for name in PERCENT]
    row += [f"{cell['first_loss']:.2f}", f"{cell['last_loss']:.2f}"]
    return [*row, f"{cell['memory_mib']:.0f}", f"{cell['seconds']:.0f}", f"{cell['parameters'] / 1e6:.1f}"]


def percent(cell: dict[str, Any], name: str) -> str:
    """A measure in percent; "none" where no class of the data defines it. Empty if the head has no such measure."""
    if name not in cell:
        return ""
    if cell[name] is None:
        return "none"
    return f"{cell[name] * (100 if '_ap' in name else 1):.1f}"


def summary(cells: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each head, a column for each arch, with the head's main figure."""
    heads, archs = (list(dict.fromkeys(cell[key] for cell in cells)) for key in ("head", "arch"))
    by_name = {(cell["head"], cell["arch"]): cell for cell in cells}
    rows = [["head", "figure", *(f"`{arch}`" for arch in archs)]]
    for head in heads:
        measure = main_measure(HEADS[head])
        marks = []
        for arch in archs:
            cell = by_name.get((head, arch))
            if cell is None:
                marks.append("")  # no leaf
            elif "failure" in cell:
                marks.append("failed")
            else:
                marks.append(percent(cell, measure) or "not run")
        rows.append([HEADS[head].title, NAMES[measure], *marks])
    return rows


def main_measure(head: Head) -> str:
    return next(name for name in MAIN if name in head.metrics)
