"""Says what the training in a work dir does, from the files in that folder alone.

python tools/status.py WORK_DIR [--json] [--verify]
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import json
from typing import Any

from backbones.errors import printable
from ziggurat.engine.cli import Parser, run_tool


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dir", metavar="WORK_DIR", help="the folder of a run")
    parser.add_argument("--json", action="store_true", help="print all facts as JSON")
    parser.add_argument("--verify", action="store_true", help="read the last checkpoint, to be sure that it is good")
    args = parser.parse_args()
    from ziggurat.engine.console import quiet_imports

    with quiet_imports():
        from ziggurat.engine.status import status_of
    facts = status_of(args.work_dir, args.verify)
    print(json.dumps(facts, indent=2) if args.json else printable("\n".join(lines_of(facts))))


def lines_of(facts: dict[str, Any]) -> list[str]:
    """The facts for people: one line each on the stage, the progress, the figures, the validation, the checkpoint."""
    from ziggurat.engine.progress import clock, scores

    age = f"; last sign of life {clock(facts['age'])} ago" if "age" in facts else ""
    lines = [f"{facts['work_dir']}: {facts['stage']}{age}"]
    place = [
        f"{name} {facts[key]}{of(facts, most)}"
        for name, key, most in PLACES
        if key in facts and (facts[key] or key != "epoch")
    ]
    if "seconds" in facts:
        place.append(f"{facts['seconds']:.3f} s an iteration, {100 * facts['loader']:.0f} % of it for the loader")
    if "eta" in facts:
        place.append(f"eta {clock(facts['eta'])}")
    figures = [text.format(facts[name]) for name, text in FIGURES.items() if name in facts]
    lines += [", ".join(line) for line in (place, figures) if line]
    if "validation" in facts:
        lines.append(f"validation: {scores(facts['validation'])}")
    for name, best in facts.get("best", {}).items():
        lines.append(f"best {name}: {best['file']}" + (f", {best['score']:.4g}" if "score" in best else ""))
    kept = facts.get("checkpoint", {})
    if "fault" in kept:
        lines.append(kept["fault"])
    else:
        last = f"last checkpoint: {kept['name']}, {clock(kept['age'])} old" if kept else "no checkpoint yet"
        lines.append(last + ", good" * kept.get("good", False))
    if "where" in facts:
        lines.append(f"the first process is {facts['where']}")
    return [*lines, *facts.get("behind", [])]


PLACES = (("epoch", "epoch", "max_epochs"), ("iteration", "iter", "max_iters"))
FIGURES = {
    "loss": "loss {:.4f}",
    "lr": "lr {:.2e}",
    "memory": "{:.0f} MiB of the GPU",
    "host_memory": "{:.0f} MiB of the machine",
}


def of(facts: dict[str, Any], most: str) -> str:
    return f" of {facts[most]}" if most in facts else ""


if __name__ == "__main__":
    run_tool(main)
