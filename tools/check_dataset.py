"""Says what is odd in the data of a config, before a training meets it. The data are only read.

python tools/check_dataset.py CONFIG [--data FOLDER] [--decode] [--strict] [--json] [--pictures DIR]
python tools/check_dataset.py FOLDER ...        by a config of the task that the folder's files are for

Each finding has a severity: a training refuses data that are "unusable", a "warning" is worth a look, and a "note" is
worth knowing. The exit status is 0 for clean data, 1 for warnings, 2 for unusable data.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

from backbones.errors import UserError
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.tool_options import add_config_options, add_data_option, data_options

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "objects": "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py",
    "masks": "segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py",
    "classes": "classification/configs/van/van_b2_8xb64_fine_tune_cifar100.py",
}


def main() -> int:
    args = parse_args()
    start = time.monotonic()
    from backbones.reading import READING
    from ziggurat.engine.config import load_config
    from ziggurat.engine.dataset_check import check_dataset, flawed_entries
    from ziggurat.engine.findings import counted, described, status, table
    from ziggurat.engine.own_data import FlawedData
    from ziggurat.engine.reading import chosen_reading
    from ziggurat.engine.tasks import task_for

    if Path(args.config).is_dir():
        (args.config, *others), args.data = configs_for(Path(args.config)), args.config
        print(f"checked by {Path(args.config).name}, which trains on such data", file=sys.stderr)
        for other in others:
            print(f"there are files for {Path(other).name}, too; name that config to check these", file=sys.stderr)
    reading = READING
    try:
        cfg = load_config(args.config, [*data_options(args), *args.cfg_options])
    except FlawedData as error:
        found, images = [flawed_entries(error.flaws)], {}
    else:
        found, images = check_dataset(cfg, task_for(cfg), args.decode)
        reading = chosen_reading(cfg)
    seconds = time.monotonic() - start
    if args.pictures:
        from ziggurat.engine.finding_pictures import draw_findings

        output_folder(args.pictures, "--pictures")
        drawn = draw_findings(found, Path(args.pictures), reading)
        print(f"{drawn.pictures} pictures: {args.pictures}", file=sys.stderr)
        for line in drawn.without:
            print(f"no picture of {line}", file=sys.stderr)
    code = status(found, args.strict)
    if args.json:
        print(json.dumps({"config": args.config, "status": code, "findings": [*map(described, found)]}, indent=2))
        return code
    if images:
        print(", ".join(f"{split}: {number:,} images" for split, number in images.items()))
    if found:
        print(table(found))
    print(f"{counted(found)} ({seconds:.1f} s{'' if args.decode else '; --decode also reads the pixels'})")
    return code


def configs_for(folder: Path) -> list[str]:
    """Configs of the tasks that a folder's files are for: objects, masks, or else classes of images."""
    from segmentation.layouts import layout_of
    from ziggurat.engine.own_data import READERS
    from ziggurat.engine.own_data.listing import Listing

    listing = Listing(folder)
    kinds = ["objects"] if any(reader.find(listing) for reader in READERS.values()) else []
    with contextlib.suppress(UserError) if kinds else contextlib.nullcontext():
        kinds += ["masks"] if layout_of(listing) else []
    return [str(ROOT / CONFIGS[kind]) for kind in kinds or ["classes"]]


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG_OR_FOLDER", help="a config of any task, or a folder of data")
    parser.add_argument(
        "--decode", action="store_true", help="decode every image and mask: finds damaged and nearly equal ones"
    )
    parser.add_argument("--strict", action="store_true", help="exit with status 2 for warnings, too")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="draw each finding into this folder: boxes on images, masks beside images, charts of classes",
    )
    add_data_option(parser)
    add_config_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
