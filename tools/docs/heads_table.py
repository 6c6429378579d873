"""Makes docs/heads.md: which models of mmdet and mmseg train and test with our networks, from docs/heads.json.

python tools/docs/heads_table.py [--write]

Without --write the page is printed. `make heads` measures docs/heads.json anew.
"""

import json
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT, PAGE = ROOT / "docs/heads.json", ROOT / "docs/heads.md"
HEAD = """# Models of mmdet and mmseg

Made by `python tools/docs/heads_table.py --write`. `make heads` tries the models anew, which takes half an hour on two
CPU cores.

Each row is a config that the packages carry ({versions}). VAN-B0 stands in the place of its
network, and ViG-Ti where its network has one scale. mmcv is not compiled. The model has random weights and gets two
small images, on the CPU.

- **trains**: one step gives finite losses, and finite gradients for all of the network.
- **tests**: every image gets a prediction of finite numbers.

Every folder of configs has a row, and so has every combination of model, neck and heads.
[README.md](../README.md#in-your-own-mmdetection-or-mmsegmentation-config) shows how such a config is written.
"""
OWN = {
    "both": "With its own network the config does both.",
    "trains": "With its own network the config trains, and does not test.",
    "tests": "With its own network the config tests, and does not train.",
    "neither": "With its own network the config does neither.",
}
LIBRARIES = {"mmdet": "Detection", "mmseg": "Segmentation"}


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/heads.md")
    if parser.parse_args().write:
        PAGE.write_text(page(json.loads(KEPT.read_text())))
    else:
        print(page(json.loads(KEPT.read_text())), end="")


def page(table: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in table["versions"].items())
    parts = [HEAD.format(versions=versions)]
    for library, title in LIBRARIES.items():
        rows = [row for row in table["rows"] if row["config"].startswith(f"{library}::")]
        trained, tested = (sum(row[key] for row in rows) for key in ("trains", "tests"))
        parts.append(f"\n## {title}\n\nOf {len(rows)} configs of {library}, {trained} train and {tested} test.\n\n")
        parts.append("| config | model | neck and heads | network | trains | tests | why not |\n|-|-|-|-|-|-|-|\n")
        parts += [f"| {' | '.join(cells(row))} |\n" for row in rows]
    return "".join(parts)


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of a row."""
    reason = "; ".join(dict.fromkeys(row.get("why", ()))).rstrip(":; ")
    if "own" in row:
        reason += f". {OWN[row['own']]}"
    return [
        row["config"].partition("::")[2].removesuffix(".py").replace("/", "/<wbr>"),
        row["model"],
        ", ".join(dict.fromkeys(row["parts"])),
        row.get("arch", ""),
        *("yes" if row[key] else "no" for key in ("trains", "tests")),
        reason.replace("|", "\\|"),
    ]


if __name__ == "__main__":
    run_tool(main)
