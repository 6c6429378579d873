"""Makes ziggurat/options.json, from which shells complete the command: options of the tools' parsers, and names.

python tools/docs/options_table.py [--write]

Without --write the table is printed.
"""

import argparse
import contextlib
import json
import runpy
import sys
from typing import Any
from unittest import mock

from backbones import list_archs, list_weights
from ziggurat.command import COMMANDS, tool_of
from ziggurat.completion import TABLE
from ziggurat.engine.cli import Parser, run_tool


class Parsing(BaseException):
    """Raised where a tool would parse its arguments."""


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace ziggurat/options.json")
    is_written = parser.parse_args().write
    text = json.dumps(table(), indent=1) + "\n"
    if is_written:
        TABLE.write_text(text)
    else:
        print(text, end="")


def table() -> dict[str, Any]:
    """All that ziggurat/completion.py reads."""
    return {"options": options_of_all(), "archs": list_archs(), "weights": list_weights()}


def options_of_all() -> dict[str, dict[str, list[str] | None]]:
    """Command -> option -> its choices; None for an option without a value, [] for one with any value."""
    return {name: options_of(parser_of(name)) for name in COMMANDS}


def parser_of(name: str) -> argparse.ArgumentParser | None:
    """The parser of a command's tool, which every tool makes before all else; None if the tool has none."""
    parsers = []

    def stop(parser: argparse.ArgumentParser, *args: Any) -> None:
        parsers.append(parser)
        raise Parsing

    tool = tool_of(name)
    with mock.patch.object(sys, "path", [str(tool.parent), *sys.path]):
        tool_main = runpy.run_path(str(tool))["main"]
        with (
            mock.patch.object(Parser, "parse_args", stop),
            mock.patch.object(sys, "argv", [str(tool), "--help"]),
            contextlib.redirect_stdout(None),
            contextlib.suppress(Parsing, SystemExit),
        ):
            tool_main()
    return parsers[0] if parsers else None


def options_of(parser: argparse.ArgumentParser | None) -> dict[str, list[str] | None]:
    """The options that the help shows, as for :func:`options_of_all`."""
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS] if parser else []
    return {
        option: None if action.nargs == 0 else [str(choice) for choice in action.choices or ()]
        for action in shown
        for option in action.option_strings
        if option.startswith("--")
    }


if __name__ == "__main__":
    run_tool(main)
