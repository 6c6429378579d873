"""Evaluates a checkpoint on test data.

python tools/test.py CONFIG CHECKPOINT [--tta] [--tile PIXELS] [--out FILE] [--report DIR] [--results DIR]
                                                                with the data and the preprocessing of the config
python tools/test.py CHECKPOINT                                 a checkpoint of this project carries its config
python tools/test.py WEIGHTS [--tta VIEWS] [--report DIR] [--images DIR] [--real-labels [FILE]]
                                                                a published classifier, by name, URL or file
python tools/test.py MODEL [--tta]                              a published detector or segmenter, by its config's name

--report writes DIR/index.html, a page for a browser: the figures, where the model errs, and the worst and best images
with their ground truth.

Published weights are tested as their authors do: input size, crop ratio, interpolation, mean and standard deviation.
Their data are ImageNet's validation images, in data_root/val, unless --images names other class folders.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import contextlib
from pathlib import Path

from ziggurat.engine.cli import CONFIG_SUFFIXES, Parser, output_folder, run_tool
from ziggurat.engine.tool_options import (
    add_data_option,
    add_run_options,
    add_tile_options,
    add_tta_option,
    data_options,
    given_tiles,
)


def main() -> None:
    args = parse_args()
    tiles = given_tiles(args)
    from backbones.files import write_json
    from ziggurat.engine.log_file import prints_to_log
    from ziggurat.engine.pages.page import check_page_folder
    from ziggurat.engine.pages.report import write_report_page
    from ziggurat.engine.run import build_testing
    from ziggurat.engine.tasks import task_for

    if args.out:
        output_folder(Path(args.out).parent)
    for name in ("report", "results"):
        if getattr(args, name):
            output_folder(getattr(args, name), f"--{name}")
    if args.report:
        check_page_folder(Path(args.report), "--report")
    cfg, checkpoint, names, guard = read_config(args)
    task = task_for(cfg)
    further = {name: getattr(args, name) for name in ("report", "results", "images", "real_labels")}
    if any(further.values()):
        task.use_test_options(cfg, names or task.class_names(cfg), **further)
    if args.tta:
        task.use_tta(cfg, None if args.tta is True else args.tta)
    if tiles is not None:
        task.use_tiles(cfg, tiles)
    with guard:
        runner = build_testing(cfg, checkpoint, args.work_dir, launcher=args.launcher, device=args.device)
        with prints_to_log(runner):
            _ = runner.test_loop  # this property builds the data set and the metrics
            runner.load_or_resume()  # the weights may bring a mean and std of their own
    line = task.describe_testing(cfg, runner.model)
    if line and runner.rank == 0:
        print(f"{args.checkpoint}: {len(runner.test_dataloader.dataset)} images, {line}", flush=True)
    metrics = runner.test()
    if args.out and runner.rank == 0:
        write_json(args.out, metrics)
        print(f"metrics: {args.out}")
    if args.report and runner.rank == 0:
        page = write_report_page(Path(args.report), task, args.checkpoint)
        print(f"report: {page or args.report}")
    if args.results and runner.rank == 0:
        print(f"results: {args.results}")


def read_config(args: argparse.Namespace):
    """What is tested: the config, the file with the weights, the class names, and a context to build the run in.

    There is no file for published weights, which the config names. The names are None if the file has none.
    """
    from backbones.weights import WEIGHTS, read_ahead, read_own_meta
    from backbones.weights.fetch import locate
    from ziggurat.engine.arguments import names_of
    from ziggurat.engine.config import load_config
    from ziggurat.engine.options import parse_options
    from ziggurat.engine.own_config import building
    from ziggurat.engine.own_testing import own_testing_config
    from ziggurat.engine.published import published_model

    options = parse_options([*data_options(args), *args.cfg_options])
    if args.config:
        cfg, names = load_config(args.config, options), None
        if args.images or args.report or args.real_labels:
            content = read_ahead(args.checkpoint)
            names = names_of(content, read_own_meta(content) or {}, args.checkpoint)
        return cfg, args.checkpoint, names, contextlib.nullcontext()
    published = published_model(args.checkpoint)
    if published is not None:
        config, path = published
        cfg = load_config(config, options)
        cfg.work_dir = cfg.get("work_dir") or str(Path("work_dirs/test") / args.checkpoint)
        return cfg, path, None, contextlib.nullcontext()
    if args.checkpoint not in WEIGHTS:
        path = locate(None, args.checkpoint)
        own = own_testing_config(path, options)
        if own is not None:
            return own[0], path, own[1], building(path)
    from classification.published import testing_config

    cfg, names = testing_config(args.checkpoint, options, args.images)
    return cfg, None, names, contextlib.nullcontext()


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[CONFIG] CHECKPOINT",
        help="the config that the checkpoint was trained with; a checkpoint, e.g. work_dirs/<name>/epoch_12.pth. "
        "Without a config also the name, URL or file of published weights",
    )
    add_tta_option(parser)
    add_tile_options(parser)
    parser.add_argument("--out", metavar="FILE", help="JSON file to write the metrics to")
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="write a page there, DIR/index.html: the figures, a table of the classes, and the worst and best images. "
        "Detection: also the kinds of errors. Segmentation: also the confusion matrix. Classification: also the "
        "confusion matrix and the calibration. All of it is also there as JSON, CSV and pictures",
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        help="write the predictions there. Detection: results.bbox.json and results.segm.json, which COCO's own tools "
        "read. Segmentation: a PNG of class indices for each image",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="classification: class folders to test on, such as those of ImageNet-V2 (0 to 999), -R or -A. If only "
        "some classes have a folder, only these may be predicted",
    )
    parser.add_argument(
        "--real-labels",
        nargs="?",
        const=True,
        metavar="FILE",
        help="classification: the labels of ImageNet-Real for ImageNet's validation images; FILE: real.json, if not "
        "the list that timm has",
    )
    add_data_option(parser)
    add_run_options(parser)
    args = parser.parse_args()
    if len(args.inputs) > 2 or args.inputs[-1].endswith(CONFIG_SUFFIXES):
        parser.error(f"[CONFIG] CHECKPOINT is needed; given: {' '.join(args.inputs)}")
    *config, args.checkpoint = args.inputs
    args.config = config[0] if config else None
    return args


if __name__ == "__main__":
    run_tool(main)
