"""Makes docs/reliability.md: what survived kills and odd inputs, from the JSON files in docs/reliability/.

python tools/docs/reliability_page.py [--write]

Without --write the page is printed. `make kill-test` and `make fuzz` measure the files anew.
"""

import json
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE, RESULTS = ROOT / "docs/reliability.md", ROOT / "docs/reliability"
HEAD = """# Reliability

Made by `python tools/docs/reliability_page.py --write`. No figure is typed: each table comes from the JSON file of a
harness in `docs/reliability/`.
"""
KILLS = """
## Kills

`make kill-test` kills small trainings with SIGKILL ({kills} kills, {date}). A training is killed at random moments,
uniform over the time of an uninterrupted one. It is also killed at each of {points} named points of a save. Only the
training process gets the signal, not the workers of its loader. Each killed run is resumed with `--resume auto`, and
killed again, until a run reaches the end.

After each kill every checkpoint is read and compared with its checksums, and the last recorded one must be the one to
go on from. At the end losses, weights, averaged weights, optimiser, best score and the names of the kept files must be
those of the uninterrupted run, bit for bit.

{table}

- **lost**: checkpoints that were recorded as the last or the best, and were gone, damaged or passed over.
- **half files**: half-written files beside the checkpoints, which the next run removes.
- **steps lost**: steps trained after the last recorded checkpoint, in all and at most in one kill.
- **differ**: losses, and files at the end, that are not those of the uninterrupted run.
- **left**: worker processes that were still there {linger:g} s after their training.

The points of a save:

{names}

{machine}
"""
FUZZ = """
## Odd inputs

`make fuzz` feeds the tools and the public API with inputs that are cut, flipped, changed or made up{date}. An input
must give a result or one clear line.

{table}

- **wrong**: results that an odd input should not have given.
{machine}"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/reliability.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page() -> str:
    """The sections of the harnesses whose JSON files are there."""
    kills, fuzz = RESULTS / "kills.json", RESULTS / "fuzz.json"
    sections = [(kills, kills_section), (fuzz, fuzz_section)]
    return HEAD + "".join(section(json.loads(path.read_text())) for path, section in sections if path.is_file())


def kills_section(content: dict[str, Any]) -> str:
    header = ["training", "steps", "kills at random", "at points", "runs", "losses compared", "half files"]
    header += ["steps lost", "lost", "losses that differ", "files that differ", "errors", "left"]
    rows = []
    for row in content["rows"]:
        lost, files = row["checkpoints_lost"] + row["checkpoints_damaged"], row["files_that_differ"]
        cells = [row["training"], row["steps"], row["kills_at_random"], row["kills_at_points"], row["runs"]]
        cells += [row["losses"], row["half_files"], f"{row['steps_lost']}, {row['most_steps_lost']}", lost]
        cells += [row["losses_that_differ"], files + row["kept_files_that_differ"], row["errors"]]
        rows.append([*cells, row["processes_left"]])
    return KILLS.format(
        kills=sum(row["kills"] for row in content["rows"]),
        date=content["date"],
        points=len(content["points"]),
        table=table(header, rows),
        linger=content["linger"],
        names="\n".join(f"- {name}" for name in content["points"]),
        machine=measured_on(content),
    )


def fuzz_section(content: dict[str, Any]) -> str:
    header = ["target", "inputs", "results", "clear errors", "tracebacks", "hangs", "crashes", "wrong"]
    rows = [[row[name.replace(" ", "_")] for name in header] for row in content["rows"]]
    if len(rows) > 1:
        rows.append(["all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))])
    date = f" ({content['date']})" if "date" in content else ""
    machine = measured_on(content)
    return FUZZ.format(date=date, table=table(header, rows), machine=f"\n{machine}\n" if machine else "")


def measured_on(content: dict[str, Any]) -> str:
    """The machine, the versions and the duration, as far as the file has them."""
    facts = dict(content.get("machine", {}))
    named = [facts.pop("device", ""), *(f"{name} {version}" for name, version in facts.items())]
    minutes = sum(row.get("minutes", 0) for row in content["rows"])
    took = f"{minutes:.0f} minutes" if minutes else ""
    said = ", ".join(fact for fact in (*named, took) if fact)
    return f"Measured on: {said}." if said else ""


def table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (header, *rows)]
    return "\n".join([lines[0], f"|:-|{'-:|' * (len(header) - 1)}", *lines[1:]])


if __name__ == "__main__":
    run_tool(main)
