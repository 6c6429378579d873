"""Makes docs/dense_models.md: detectors and segmenters, counted here, beside the published figures.

python tools/docs/dense_models_table.py [--write]

The published figures are those of docs/published_dense.json.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.console import library_warnings_to
from ziggurat.engine.counting import count_config

ROOT = Path(__file__).resolve().parent.parent.parent
PUBLISHED, PAGE = ROOT / "docs/published_dense.json", ROOT / "docs/dense_models.md"
TOLERANCE = 0.03  # of a published figure, beyond its rounding; a larger difference needs its reason in PUBLISHED
HEAD = """# Detectors and segmenters

Made by `python tools/docs/dense_models_table.py --write`. The table shows parameters in millions and multiply-adds in
billions of whole models, counted here as `python tools/model_info.py CONFIG` counts, and as published. A detector is
counted on 1000 regions for boxes and 100 for masks. A star marks a size that the source does not state. A number in
brackets refers to the reason of a difference over 3 %, below.

| config | image | params M, here | published | MACs G, here | published |
|---|---|---|---|---|---|
"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/dense_models.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page() -> str:
    whys: list[str] = []
    lines = []
    for row in rows():
        marks = {key: mark(row, key, whys) for key in ("params_m", "macs_g")}
        size = "x".join(map(str, row["size"])) + ("" if row.get("size_stated", True) else "*") if "size" in row else "-"
        cells = [Path(row["config"]).stem, size, f"{row['counted']['params_m']:.2f}", marks["params_m"]]
        cells += [f"{row['counted']['macs_g']:.1f}" if "size" in row else "-", marks["macs_g"]]
        lines.append(f"| {' | '.join(cells)} |\n")
    reasons = "".join(f"\n({i}) {why}\n" for i, why in enumerate(whys, 1))
    return HEAD + "".join(lines) + reasons


def rows() -> list[dict[str, Any]]:
    """Every published row, with ``config``, ``counted`` (params_m, macs_g) and ``differs``, the keys that differ."""
    found = []
    for config, published in json.loads(PUBLISHED.read_text())["configs"].items():
        for row in published:
            counted = counted_at(config, tuple(row.get("size", ())))
            differs = [key for key in counted if key in row and not close(counted[key], row[key])]
            found.append({**row, "config": config, "counted": counted, "differs": differs})
    return found


@cache
def counted_at(config: str, size: tuple[int, ...]) -> dict[str, float]:
    with library_warnings_to(None):
        counted, _ = count_config(load_config(ROOT / config), *size)
    return {"params_m": counted.params / 1e6, "macs_g": counted.macs / 1e9}


def close(counted: float, published: float) -> bool:
    """Whether two figures differ by no more than 3 % and the rounding of the published one."""
    digits = len(str(published).partition(".")[2])
    return abs(counted - published) <= TOLERANCE * published + 0.5 * 10**-digits


def mark(row: dict[str, Any], key: str, whys: list[str]) -> str:
    """A published figure, with the number of the reason why it differs."""
    if key not in row:
        return "-"
    if key not in row["differs"]:
        return str(row[key])
    why = row.get("why", {}).get(key, "unexplained")
    if why not in whys:
        whys.append(why)
    return f"{row[key]} ({whys.index(why) + 1})"


if __name__ == "__main__":
    run_tool(main)
