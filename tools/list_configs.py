"""Lists the configs that come with the project, each with its task.

python tools/list_configs.py [PATTERN ...] [--paths]

Every tool that takes a config takes such a name in its place.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import difflib
from fnmatch import fnmatch
from pathlib import Path

from backbones.errors import UserError
from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.project_configs import project_configs
from ziggurat.root import ROOT


def main() -> None:
    args = parse_args()
    found = project_configs()
    names = [name for name in found if any(fnmatch(name, pattern) for pattern in args.patterns)]
    for pattern in args.patterns:
        if not any(fnmatch(name, pattern) for name in names):
            nearest = difflib.get_close_matches(pattern, found, n=3, cutoff=0.5)
            hint = f"nearest: {', '.join(nearest)}" if nearest else "without a pattern all of them are listed"
            raise UserError(f"no config of the project has the name {pattern!r}; {hint}")
    for name in names:
        print(found[name] if args.paths else f"{task_of(found[name]):14}  {name}")


def task_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN", help="names, * and ? allowed")
    parser.add_argument("--paths", action="store_true", help="print each config's file, to read or to copy")
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
