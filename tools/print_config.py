"""Prints a config as one file to copy, with all that it inherits and all that follows.

python tools/print_config.py CONFIG [--cfg-options KEY=VALUE ...] > mine.py

The file has no ``_base_``, and every word such as ``"backbone"`` is replaced. It trains the same run here, and in
mmdetection's or mmsegmentation's own tools, which need this project only for its ``custom_imports``.
"""

import ziggurat.engine.start  # noqa: F401

import argparse

from ziggurat.engine.cli import Parser, run_tool
from ziggurat.engine.tool_options import add_config_options


def main() -> None:
    args = parse_args()
    from ziggurat.engine.config import READ_KEYS, load_config
    from ziggurat.engine.config_text import text_of
    from ziggurat.engine.inherited import without_helpers

    cfg = load_config(args.config, args.cfg_options)
    print(f"# {args.config}{''.join(f' {option}' for option in args.cfg_options)}, completed")
    print(text_of(without_helpers(cfg, READ_KEYS)), end="")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("config", help="a file, or a name that tools/list_configs.py lists")
    add_config_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
