"""Draws samples of a config's data as the network gets them, with classes, boxes and masks.

python tools/browse_dataset.py CONFIG [--split train|val] [--num 16] [--out DIR]

Writes one picture for each sample, and sheet.png with all of them.
"""

import engine.start  # noqa: F401

import argparse
import contextlib
import io
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.cli import Parser, output_folder, run_tool
from engine.tool_options import add_config_options, add_data_option, data_options

SHEET_WIDTH = 1600  # pixels
MAX_COLUMNS = 4
GAP = 8


def main() -> None:
    args = parse_args()
    from engine.config import load_config
    from engine.tasks import task_for

    cfg = load_config(args.config, [*data_options(args), *args.cfg_options])
    task = task_for(cfg)
    task.check_data(cfg, (args.split,))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        dataset = task.build_dataset(cfg, args.split)

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    out = Path(args.out or Path("work_dirs/browse") / Path(args.config).stem / args.split)
    output_folder(out)
    indices = np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).astype(int)
    pictures = []
    for index in indices.tolist():
        pictures.append(task.draw_sample(dataset[index], dataset.metainfo))
        pictures[-1].save(out / f"{index:06d}.png")
    contact_sheet(pictures).save(out / "sheet.png")
    print(f"{len(pictures)} of {len(dataset)} samples of the {args.split} set: {out / 'sheet.png'}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config of any task")
    parser.add_argument("--split", choices=["train", "val"], default="train", help="data set (default: train)")
    parser.add_argument(
        "--num", type=count, default=16, help="number of samples, evenly spread over the set (default: 16)"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the pictures (default: work_dirs/browse/<config name>/<split>)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random steps of the pipeline (default: 0)")
    add_data_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers from 1")
    return int(text)


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """The pictures in rows of up to four, each scaled to the width of its column."""
    columns = min(MAX_COLUMNS, len(pictures))
    width = (SHEET_WIDTH - GAP * (columns - 1)) // columns
    pictures = [picture.resize((width, round(picture.height * width / picture.width))) for picture in pictures]
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (SHEET_WIDTH, sum(heights) + GAP * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * (width + GAP), top))
        top += height + GAP
    return sheet


if __name__ == "__main__":
    run_tool(main)
