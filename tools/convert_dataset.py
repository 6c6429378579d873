"""Writes a data set of any format that is known as COCO json, or as index masks with a legend.

python tools/convert_dataset.py IN --to coco --out DIR      DIR/annotations/instances_SPLIT.json for each split
python tools/convert_dataset.py IN --to masks --out DIR     DIR/SPLIT/IMAGE.png and DIR/legend.json: 255 is unlabelled

Images are not copied: their names in the json are those below IN. What could not be carried over is printed, and
counted. Nothing in IN is changed, and DIR must be empty or new.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from backbones.errors import UserError
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.tool_options import add_config_options

OPTIONS = ("val_share", "val_group", "val_seed", "data_files", "box_units", "legend", "classes")


def main() -> None:
    args = parse_args()
    from ziggurat.engine.options import parse_options

    options = parse_options(args.cfg_options)
    for key in options:
        if key not in OPTIONS:
            raise UserError(f"option {key} changes nothing here; allowed: {', '.join(OPTIONS)}")
    out = output_folder(args.out)
    if any(out.iterdir()):
        raise UserError(f"--out {out} is not empty; allowed: a new or empty folder")
    with tempfile.TemporaryDirectory() as cache:
        own = dict(options, data_root=args.root, data_format=args.format, data_cache=cache)
        numbers = (write_coco if args.to == "coco" else write_masks)(own, out)
    print(", ".join(f"{split}: {number:,} images" for split, number in numbers.items()) + f"; written to {out}")


def write_coco(options: dict, out: Path) -> dict[str, int]:
    """Writes the json of each split. The reader's notes say what is not in them."""
    from mmengine.config import ConfigDict

    from ziggurat.engine.own_data import of_config

    own = of_config(ConfigDict(options))
    numbers = {}
    for split, file in own.files.items():
        path = out / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, path)
        numbers[split] = len(json.loads(path.read_bytes())["images"])
    return numbers


def write_masks(options: dict, out: Path) -> dict[str, int]:
    from mmengine.config import ConfigDict

    from segmentation.converted import write_index_masks
    from segmentation.own_masks import found_masks
    from ziggurat.engine.num_classes import class_names

    found = found_masks(ConfigDict(options))
    return write_index_masks(found, found.names or class_names(options["classes"], numbered=True), out)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="IN", help="the folder of the data set")
    parser.add_argument("--to", choices=["coco", "masks"], required=True, help="what is written")
    parser.add_argument("--out", metavar="DIR", required=True, help="a new or empty folder")
    parser.add_argument("--format", default="auto", help="the format of IN, as data_format of a config (default: auto)")
    add_config_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
