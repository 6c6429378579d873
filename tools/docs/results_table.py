"""Makes the table of published results in README.md from docs/results.json.

python tools/docs/results_table.py [--write]

Without --write the table is printed. With --write it replaces the table in README.md.
"""

import json
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import torch

from backbones import WEIGHTS
from classification import create_classifier
from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "docs/results.json"
BEGIN, END = "<!-- results: tools/docs/results_table.py --write -->\n", "<!-- /results -->\n"
HEADER = [
    "| weights | params M | top-1 | Mask R-CNN 1x | Cascade Mask R-CNN 3x | Semantic FPN | UPerNet |",
    "|:-|-:|-:|-:|-:|-:|-:|",
]


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace the table in README.md")
    if parser.parse_args().write:
        readme = ROOT / "README.md"
        readme.write_text(with_table(readme.read_text(), results_table()))
    else:
        print(results_table(), end="")


def with_table(page: str, table: str) -> str:
    """The page with the table between its two marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table + END + rest.split(END)[1]


def results_table() -> str:
    """One row for each set of published weights, and the notes below."""
    results = json.loads(RESULTS.read_text())
    numbers: dict[str, int] = {}  # of the notes, in the order in which the table mentions them
    lines = list(HEADER)
    for name in WEIGHTS:
        figures = results["weights"][name]
        cells = [
            f"`{name}`",
            f"{parameters(name.split('.')[0]) / 1e6:.1f}",
            cell(figures, numbers, "top1"),
            cell(figures, numbers, "mask_rcnn_1x"),
            cell(figures, numbers, "cascade_mask_rcnn_3x"),
            cell(figures, numbers, "semantic_fpn"),
            cell(figures, numbers, "upernet", "upernet_multi"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"<sup>{number}</sup> {results['notes'][note]}" for note, number in numbers.items()]
    return "\n".join(lines) + "\n\n" + "<br>\n".join(notes) + "\n"


def parameters(arch: str) -> int:
    """The number of parameters of the classifier of 1000 classes."""
    with torch.device("meta"):
        return sum(p.numel() for p in create_classifier(arch).parameters())


def cell(figures: dict[str, Any], numbers: dict[str, int], *columns: str) -> str:
    """The figures of one or two columns, rounded to one decimal, with the numbers of their notes.

    Two columns share a cell as ``first / second``. A missing figure is ``-``; the cell is empty if all are missing.
    """
    found = [figures.get(column) for column in columns]
    notes = dict.fromkeys(figure["note"] for figure in found if figure and "note" in figure)
    marks = ", ".join(str(numbers.setdefault(note, len(numbers) + 1)) for note in notes)
    while found and found[-1] is None:
        found.pop()
    text = " / ".join(one_decimal(figure["value"]) if figure else "-" for figure in found)
    return f"{text} <sup>{marks}</sup>" if marks else text


def one_decimal(figure: float) -> str:
    """The figure with one decimal, rounded half up: 54.25 becomes 54.3. Python's own rounding gives 54.2."""
    return str(Decimal(str(figure)).quantize(Decimal("0.1"), ROUND_HALF_UP))


if __name__ == "__main__":
    run_tool(main)
