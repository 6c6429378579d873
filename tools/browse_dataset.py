"""Makes a page of a config's data: statistics, and images with their annotations beside what the network is given.

python tools/browse_dataset.py CONFIG [--data FOLDER] [--split train|val] [--num 16] [--augmented 2] [--out DIR]

Open DIR/index.html in a browser. The page has charts of sizes and classes, and a filter by class and by name. DIR also
has one picture for each sample, after the pipeline, and sheet.png with all of them.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import contextlib
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.tool_options import add_config_options, add_data_option, data_options

SHEET_WIDTH = 1600  # pixels
MAX_COLUMNS = 4
GAP = 8
SHEET = "sheet.png"
PICTURES = "pictures"  # the folder of the page's pictures


def main() -> None:
    args = parse_args()
    from backbones.errors import UserError
    from ziggurat.engine.config import load_config
    from ziggurat.engine.originals import spread
    from ziggurat.engine.pages.content import Page
    from ziggurat.engine.pages.dataset import write_dataset_page
    from ziggurat.engine.pages.page import NAME, check_page_folder, write_page
    from ziggurat.engine.splits import datasets_of
    from ziggurat.engine.tasks import task_for

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
    check_page_folder(out, "--out", (SHEET, f"{'[0-9]' * 6}.png", PICTURES))
    root = args.data or next(datasets_of(cfg, args.split), {}).get("data_root") or cfg.get("data_root") or ""
    pictures, cards, failed = [], [], []
    for index in spread(len(dataset), args.num):
        try:
            drawn, card = show(task, dataset, index, args.augmented, out, str(root))
        except UserError as error:
            failed.append(str(error))
            continue
        if not (out / NAME).exists():  # so that the files of an interrupted page can be replaced
            write_page(out, Page(title=f"{Path(args.config).stem}: an unfinished page"))
        pictures.append(drawn)
        cards.append(card)
    if not pictures:
        raise UserError(failed[0] if failed else f"the {args.split} set has no images")
    found = task.statistics(dataset, args.sample or None)
    facts = {"data": str(root) or "as in the config", "split": args.split}
    page = write_dataset_page(out, f"{Path(args.config).stem}: {args.split} data", facts, found, cards, failed)
    contact_sheet(pictures).save(out / SHEET)
    print(f"{len(pictures)} of {len(dataset)} samples of the {args.split} set: {out / SHEET}")
    if failed:
        first = failed[0].partition(";")[0]
        print(f"left out, since files cannot be read: {len(failed)} of {len(failed) + len(pictures)}; {first}")
    print(f"page: {page}")


def show(task: Any, dataset: Any, index: int, augmented: int, out: Path, root: str) -> tuple[Image.Image, Any]:
    """The picture and the card of a sample. The name of its image is shortened by the folder ``root``.

    Raises:
        UserError: the image or its mask cannot be read.
    """
    from ziggurat.engine.pages.dataset import card_of
    from ziggurat.engine.pages.page import save_picture

    original = task.annotated(dataset, index)
    drawn = [task.draw_sample(dataset[index], dataset.metainfo) for _ in range(augmented)]
    drawn[0].save(out / f"{index:06d}.png")
    if all(one.tobytes() == drawn[0].tobytes() for one in drawn):  # as without random steps
        drawn = drawn[:1]
    shown = []
    if original is not None:
        shown.append(save_picture(original.image, out, f"{PICTURES}/{index:06d}_file.jpg", "as in the file"))
    for number, one in enumerate(drawn, 1):
        label = "as the network gets it" if len(drawn) == 1 else f"augmented, {number} of {len(drawn)}"
        link = f"{index:06d}.png" if number == 1 else ""
        shown.append(save_picture(one, out, f"{PICTURES}/{index:06d}_{number}.jpg", label, link))
    if original is None:
        return drawn[0], card_of(f"sample {index}", shown, (), ())
    name = original.name.removeprefix(f"{root.rstrip('/')}/")
    return drawn[0], card_of(f"{index}: {name}", shown, original.lines, original.classes)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config of any task")
    parser.add_argument("--split", choices=["train", "val"], default="train", help="data set (default: train)")
    parser.add_argument(
        "--num", type=count, default=16, help="number of samples, evenly spread over the set (default: 16)"
    )
    parser.add_argument(
        "--augmented", type=count, default=2, metavar="K", help="how often each sample is augmented (default: 2)"
    )
    parser.add_argument(
        "--sample",
        type=whole,
        default=500,
        metavar="N",
        help="statistics that no annotation file gives, such as the pixels of masks, are of so many files; 0 for all "
        "(default: 500)",
    )
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the page (default: work_dirs/browse/<config name>/<split>)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random steps of the pipeline (default: 0)")
    add_data_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers from 1")
    return int(text)


def whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers from 0")
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
