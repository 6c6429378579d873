"""Makes docs/own_data.md: what people meet in their own data, the command for it, and what the command prints.

python tools/docs/own_data_page.py [--write]

Without --write the page is printed. Every command is run on a small data set that is made for it.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ziggurat.engine.cli import Parser, run_tool

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/own_data.md"
HEAD = """# Your own data

Made by `python tools/docs/own_data_page.py --write`. Every command below was run on a small data set with that trouble.

`tools/check_dataset.py` takes a config or a folder, and only reads. It needs no GPU and decodes no image, unless
`--decode` is given. A finding that is "unusable" stops a training before it begins, with the same words.
`--json` prints all findings for a program. `--pictures DIR` draws each finding: boxes on their images, equal images
side by side, pixels of no class in red, charts of classes. It names the findings of which there is nothing to show.
"""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/own_data.md")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        print(page(), end="")


def page() -> str:
    sys.path += [str(ROOT / name) for name in ("tools", "tools/reliability")]
    from own_data_cases import CASES

    return HEAD + "".join(map(section, CASES))


def section(case: Any) -> str:
    command = shlex.join(["python", "tools/check_dataset.py", *case.arguments])
    printed = "\n".join(line.rstrip() for line in output_of(case).splitlines())
    cure = f"\n{case.cure}\n" if case.cure else ""
    return f"\n## {case.title}\n\n{case.text}\n\n```\n{command}\n```\n\n```text\n{printed}\n```\n{cure}"


def output_of(case: Any) -> str:
    """What the command prints, without the seconds that it takes, and with the status that it ends with."""
    import check_dataset

    told = io.StringIO()
    with in_new_folder() as folder:
        case.make(folder / "my_data")
        before, sys.argv = sys.argv, ["check_dataset.py", *map(absolute, case.arguments)]
        try:
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                run_tool(check_dataset.main)
        except SystemExit as stop:
            status = stop.code
        finally:
            sys.argv = before
    text = told.getvalue().replace(f"{folder.resolve()}/", "").replace(f"{folder}/", "")
    text = re.sub(r"\([\d.]+ s(; --decode also reads the pixels)?\)", "", text)
    text = re.sub(
        r"work_dirs/own_data/my_data-\w+/(\w+)-\w+\.json", r"work_dirs/own_data/my_data-.../\1-....json", text
    )
    return f"{text}(exit status {status})"


def absolute(argument: str) -> str:
    return str(ROOT / argument) if (ROOT / argument).is_file() else argument


@contextlib.contextmanager
def in_new_folder() -> Iterator[Path]:
    """A block in a folder of its own, which is removed afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


if __name__ == "__main__":
    run_tool(main)
