"""Predicts on your own images: for each a picture with the prediction drawn on it, and a JSON file.

python tools/predict.py CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]           a checkpoint of this project
python tools/predict.py WEIGHTS IMAGE_OR_FOLDER ... [--out DIR]              a published classifier: name, URL or file
python tools/predict.py MODEL IMAGE_OR_FOLDER ... [--out DIR]                a published detector or segmenter, by its
                                                                             config's name
python tools/predict.py CONFIG CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]    any other, with its config
python tools/predict.py CHECKPOINT FOLDER --csv FILE [--batch-size 64] [--workers 4]
                                                                   classification: one table in place of the files

    classification   <name>.png with the five best classes         <name>.json: labels, categories, scores
    detection        <name>.png with boxes and masks               <name>.json: boxes [x1, y1, x2, y2] in the image's
                                                                   pixels, scores, labels, categories, masks (COCO RLE)
    of a panoptic    <name>.png with all segments                  <name>.json: also the segments: id, label, category,
    model            panoptic/<name>.png, the ids in COCO's        isthing, area
                     colours
    segmentation     <name>.png tinted by class, with a legend     <name>.json: the classes present and their share
                     masks/<name>.png, uint8 class indices

An image that cannot be read, or has a side below 32 pixels, is named and skipped. The exit status is then 1.
"""

import engine.start  # noqa: F401

import argparse
import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backbones import UserError
from backbones.checks import check_int
from backbones.image_files import list_images, output_stems, without_arrays
from backbones.reading import Reading
from engine.addresses import local
from engine.cli import CONFIG_SUFFIXES, Parser, output_folder, run_tool
from engine.places import place_of
from engine.tool_options import add_config_options, add_download_option, add_tile_options, given_tiles

ANY_CHANNELS = Reading(channels=2)  # lists NumPy files too, before the network's channels are known
BEST = 5  # classes of an image in the table
CSV_FORMAT = dict(newline="", encoding="utf-8", errors="surrogateescape")  # a path may be no text


def main() -> int:
    args = parse_args()
    out = Path(args.out or Path("work_dirs/predict") / place_of(args.checkpoint))
    given = local(args.images, args.download)
    paths = list_images(given.paths, ANY_CHANNELS)
    if args.csv:
        refuse_to_overwrite(paths, [Path(args.csv)], "--csv")
    else:
        paths = without_results(paths, given.paths, out)
        folders = (out, out / "masks", out / "panoptic")
        refuse_to_overwrite(paths, [folder / f"{stem}.png" for stem in output_stems(paths) for folder in folders])

    from engine import Predictor
    from engine.processes import pick_device

    model = [args.config, args.checkpoint] if args.config else [args.checkpoint]
    options = dict(device=pick_device(args.device), cfg_options=args.cfg_options, batch_size=args.batch_size)
    options |= dict(tile=args.tile, tile_overlap=args.tile_overlap)
    predictor = Predictor(*model, **options)
    paths = without_arrays(paths, given.paths) if predictor.reading.is_picture else paths
    names = [given.addresses.get(path, str(path)) for path in paths]
    stems = output_stems(paths)
    output_folder(Path(args.csv).parent if args.csv else out, "--csv" if args.csv else "--out")
    results = shown(predictor.each(paths, args.workers), len(paths))
    if args.csv:
        skipped = write_table(predictor, names, results, args.csv)
    else:
        skipped = []
        for number, result in results:
            try:
                save(predictor, result, paths[number], names[number], args.score_thr, out, stems[number])
            except UserError as error:
                skipped.append(say_skipped(error))

    print(f"{len(paths) - len(skipped)} of {len(paths) + len(given.problems)} images: {args.csv or out}")
    skipped += given.problems
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    return 1 if skipped else 0


def shown(results, count: int):
    """Passes on the numbered results of ``count`` images, and shows how many there were: a bar, elsewhere lines."""
    bar = tqdm(total=count, unit="image", disable=None)
    for done, result in enumerate(results, 1):
        yield result
        bar.update()
        if bar.disable and done % 100 == 0:
            print(f"{done}/{count}", flush=True)
    bar.close()


def say_skipped(error: UserError) -> str:
    tqdm.write(f"skipped: {error}", file=sys.stderr)
    return str(error)


def write_table(predictor, names: list[str], results, file: str) -> list[str]:
    """Writes a row for each image: its path or address, and the best classes with index, name and score.

    Returns:
        The messages for the images that could not be predicted.
    """
    from backbones.files import replaced_file
    from engine.results import Scores

    if predictor.task.result_type is not Scores:
        raise UserError(f"--csv is for classification, and this is {predictor.task.name}; leave it out")
    best = min(BEST, len(predictor.names))
    columns = [f"{name}{'' if k == 1 else f'_{k}'}" for k in range(1, best + 1) for name in ("label", "class", "score")]
    skipped = []
    with replaced_file(file) as beside, beside.open("w", **CSV_FORMAT) as stream:
        table = csv.writer(stream)
        table.writerow(["image", *columns])
        for number, result in results:
            if isinstance(result, UserError):
                skipped.append(say_skipped(result))
                continue
            cells = zip(result.labels.tolist(), result.names, map("{:.6f}".format, result.scores), strict=True)
            table.writerow([names[number], *(cell for row in list(cells)[:best] for cell in row)])
    return skipped


def save(predictor, result, path: Path, name: str, score_thr: float, out: Path, stem: str) -> None:
    """Writes the picture of a result, its JSON and its mask of class indices. Raises a result that is an error."""
    from PIL import Image

    from engine.results import ClassMap, Instances, Panoptic

    if isinstance(result, UserError):
        raise result
    if isinstance(result, Instances):
        result = result.above(score_thr)
    predictor.draw(path, result).save(out / f"{stem}.png")
    if isinstance(result, ClassMap):
        (out / "masks").mkdir(exist_ok=True)
        Image.fromarray(result.class_map).save(out / "masks" / f"{stem}.png")
    if isinstance(result, Panoptic):
        (out / "panoptic").mkdir(exist_ok=True)
        ids = result.panoptic_map
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        Image.fromarray(colours).save(out / "panoptic" / f"{stem}.png")
    (out / f"{stem}.json").write_text(json.dumps({"image": name, **predictor.describe(result)}) + "\n")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[CONFIG] CHECKPOINT IMAGE",
        help="the config that the checkpoint was trained with, if the checkpoint does not carry it; a checkpoint, e.g. "
        "work_dirs/<config name>/epoch_12.pth, or the name, URL or file of a published classifier; image files, or "
        "folders that are searched for images",
    )
    parser.add_argument("--out", metavar="DIR", help="default: work_dirs/predict/<run>/<checkpoint>")
    add_download_option(parser)
    parser.add_argument(
        "--csv", metavar="FILE", help="classification: one table of the five best classes, in place of files in --out"
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images computed at a time (default: 1)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images (default: 0)")
    parser.add_argument("--score-thr", type=float, default=0.3, help="detection: leave out boxes below (default: 0.3)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    add_tile_options(parser)
    add_config_options(parser)
    args = parser.parse_args()
    given_tiles(args)
    if not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr {args.score_thr}: allowed 0 to 1")
    check_int("--batch-size", args.batch_size, 1, None)
    check_int("--workers", args.workers, 0, None)
    # The suffix tells a config from a checkpoint.
    args.config = args.inputs.pop(0) if args.inputs[0].endswith(CONFIG_SUFFIXES) else None
    args.checkpoint, *args.images = args.inputs or [None]
    if args.csv and args.out:
        parser.error("--csv FILE takes the place of --out DIR; give one of the two")
    if args.csv and Path(args.csv).is_dir():
        raise UserError(f"--csv {args.csv} is a folder; allowed: a file")
    if not args.images:
        parser.error("too few arguments; needed: [CONFIG] CHECKPOINT IMAGE_OR_FOLDER ...")
    return args


def without_results(paths: list[Path], given: list[str], out: Path) -> list[Path]:
    """Leaves out pictures of earlier predictions, if a given folder contains ``out``; UserError if no image is left."""
    given, out = {real(path) for path in given}, real(out)
    kept = [path for path in paths if out in given or real(path) in given or out not in real(path).parents]
    if not kept:
        raise UserError(f"no images but earlier predictions, in {out}")
    return kept


def real(path: str | Path) -> Path:
    """Where a path leads. Unlike ``Path.resolve``, this takes a link that leads to itself."""
    return Path(os.path.realpath(path))


def refuse_to_overwrite(inputs: list[Path], outputs: list[Path], option: str = "--out") -> None:
    inputs = {real(path) for path in inputs}
    for path in outputs:
        if real(path) in inputs:
            raise UserError(f"{option} would overwrite the input {path}; choose another place")


if __name__ == "__main__":
    run_tool(main)
