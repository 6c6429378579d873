"""Says what is installed, and what is known to go wrong in such an environment, each with its cure.

python tools/doctor.py [--json]

The exit status is 0 if nothing is wrong, 1 for warnings, 2 if something cannot work.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import json

from ziggurat.engine.cli import Parser, run_tool


def main() -> int:
    args = parse_args()
    from ziggurat.engine.doctor import facts, findings
    from ziggurat.engine.findings import counted, described, ordered, status, table

    found, there = ordered(findings()), facts()
    if args.json:
        print(json.dumps({"facts": there, "findings": [*map(described, found)]}, indent=2))
        return status(found)
    width = max(map(len, there))
    for name, value in there.items():
        print(f"{name:{width}}  {value}")
    print()
    if found:
        print(table(found))
    print(counted(found))
    return status(found)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
