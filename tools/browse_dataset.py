"""Draws what a network is trained on: samples of a config after its pipeline, with their classes, boxes and masks.

python tools/browse_dataset.py CONFIG [--split train|val] [--num 16] [--out DIR]

Writes one picture for each sample, and sheet.png with all of them.
"""

import argparse
import contextlib
import copy
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.cli import Parser, add_config_options, output_folder, run_tool
from engine.draw import draw_classes, draw_instances, make_palette, side_by_side

SHEET_WIDTH = 1600  # pixels
MAX_COLUMNS = 4
GAP = 8


def main() -> None:
    args = parse_args()
    from engine.config import load_config, task_module, task_of

    cfg = load_config(args.config, args.cfg_options)
    task_module(cfg).check_data(cfg, (args.split,))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells what it is doing
        dataset = build_dataset(cfg, args.split)
    draw = {"classification": draw_labelled, "detection": draw_boxes, "segmentation": draw_mask}[task_of(cfg)]

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    out = Path(args.out or Path("work_dirs/browse") / Path(args.config).stem / args.split)
    output_folder(out)
    indices = np.linspace(0, len(dataset) - 1, min(args.num, len(dataset))).astype(int)
    pictures = []
    for index in indices.tolist():
        pictures.append(draw(dataset[index], dataset.metainfo))
        pictures[-1].save(out / f"{index:06d}.png")
    contact_sheet(pictures).save(out / "sheet.png")
    print(f"{len(pictures)} of {len(dataset)} samples of the {args.split} set: {out / 'sheet.png'}")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="of any task")
    parser.add_argument("--split", choices=["train", "val"], default="train", help="default: train")
    parser.add_argument("--num", type=count, default=16, help="of samples, taken evenly from the set (default: 16)")
    parser.add_argument("--out", metavar="DIR", help="default: work_dirs/browse/<config name>/<split>")
    parser.add_argument("--seed", type=int, default=0, help="of what the pipeline does at random (default: 0)")
    add_config_options(parser)
    return parser.parse_args()


def count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: whole numbers from 1")
    return int(text)


def build_dataset(cfg: Any, split: str) -> Any:
    """The data set of a split, one that loads its annotations even where validation would not need them."""
    from mmengine.registry import DATASETS, init_default_scope

    init_default_scope(cfg.default_scope)
    dataset = copy.deepcopy(cfg[f"{split}_dataloader"].dataset)
    if dataset.type == "CocoDataset" and not any(step.type == "LoadAnnotations" for step in dataset.pipeline):
        masks = any(step.get("with_mask") for step in cfg.train_dataloader.dataset.get("pipeline", []))
        dataset.pipeline.insert(1, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks})
    return DATASETS.build(dataset)


def draw_labelled(sample: dict[str, Any], metainfo: dict[str, Any]) -> Image.Image:
    image = Image.fromarray(sample["inputs"].permute(1, 2, 0).numpy())
    image = image.resize([side * max(1, 192 // image.width) for side in image.size])
    return side_by_side([image], [metainfo["classes"][int(sample["data_samples"])]])


def draw_boxes(sample: dict[str, Any], metainfo: dict[str, Any]) -> Image.Image:
    truth = sample["data_samples"].gt_instances
    labels = truth.labels.tolist()
    palette = metainfo.get("palette") or make_palette(len(metainfo["classes"]))
    boxes = truth.bboxes.tensor if hasattr(truth.bboxes, "tensor") else truth.bboxes
    return draw_instances(
        from_bgr(sample["inputs"]),
        boxes.numpy(),
        [metainfo["classes"][label] for label in labels],
        [tuple(palette[label]) for label in labels],
        masks=truth.masks.to_ndarray().astype(bool) if "masks" in truth else None,
    )


def draw_mask(sample: dict[str, Any], metainfo: dict[str, Any]) -> Image.Image:
    image, mask = from_bgr(sample["inputs"]), sample["data_samples"].gt_sem_seg.data[0].numpy()
    if mask.shape != (image.height, image.width):  # masks are loaded after the resizes where only testing needs them
        image = image.resize(mask.shape[::-1])
    return draw_classes(image, mask, metainfo["classes"], metainfo["palette"])


def from_bgr(inputs: torch.Tensor) -> Image.Image:
    """An image of mmcv's, uint8 (3, H, W) in BGR, as PIL has it."""
    return Image.fromarray(inputs.flip(0).permute(1, 2, 0).contiguous().numpy())


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
