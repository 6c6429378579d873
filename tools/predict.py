"""Predicts on your own images: for each a picture with the prediction drawn on it, and a JSON file.

python tools/predict.py CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]           a checkpoint of this project
python tools/predict.py CONFIG CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]    any other, with its config

    classification   <name>.png with the five best classes         <name>.json: labels, categories, scores
    detection        <name>.png with boxes and masks               <name>.json: boxes [x1, y1, x2, y2] in the image's
                                                                   pixels, scores, labels, categories, masks (COCO RLE)
    segmentation     <name>.png tinted by class, with a legend     <name>.json: the classes present and their share
                     masks/<name>.png, uint8 class indices

An image that cannot be read, or has a side below 32 pixels, is named and skipped. The exit status is then 1.
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from backbones import UserError
from backbones.images import list_images, output_stems
from engine.cli import CONFIG_SUFFIXES, Parser, add_config_options, output_folder, run_tool


def main() -> int:
    args = parse_args()
    out = Path(args.out or Path("work_dirs/predict") / Path(args.config or args.checkpoint).stem)
    paths = without_results(list_images(args.images), args.images, out)
    stems = output_stems(paths)
    refuse_to_overwrite(paths, [folder / f"{stem}.png" for stem in stems for folder in (out, out / "masks")])

    from engine import Predictor
    from engine.processes import pick_device

    model = [args.config, args.checkpoint] if args.config else [args.checkpoint]
    predictor = Predictor(*model, device=pick_device(args.device), cfg_options=args.cfg_options)
    output_folder(out)
    skipped = []
    bar = tqdm(total=len(paths), unit="image", disable=None)
    for number, (path, stem) in enumerate(zip(paths, stems, strict=True), 1):
        try:
            save(predictor, path, args.score_thr, out, stem)
        except UserError as error:
            skipped.append(str(error))
            tqdm.write(f"skipped: {error}", file=sys.stderr)
        bar.update()
        if bar.disable and number % 100 == 0:
            print(f"{number}/{len(paths)}", flush=True)
    bar.close()

    print(f"{len(paths) - len(skipped)} of {len(paths)} images: {out}")
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    return 1 if skipped else 0


def save(predictor, path: Path, score_thr: float, out: Path, stem: str) -> None:
    """Predicts on one image and writes its picture, its JSON and its mask of class indices."""
    from PIL import Image

    from engine.results import ClassMap, Instances

    result = predictor(path)
    if isinstance(result, Instances):
        result = result.above(score_thr)
    predictor.draw(path, result).save(out / f"{stem}.png")
    if isinstance(result, ClassMap):
        (out / "masks").mkdir(exist_ok=True)
        Image.fromarray(result.class_map).save(out / "masks" / f"{stem}.png")
    (out / f"{stem}.json").write_text(json.dumps({"image": str(path), **predictor.describe(result)}) + "\n")


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[CONFIG] CHECKPOINT IMAGE",
        help="the config that the checkpoint was trained with, if the checkpoint does not carry it; a checkpoint, e.g. "
        "work_dirs/<config name>/epoch_12.pth; image files, or folders that are searched for images",
    )
    parser.add_argument("--out", metavar="DIR", help="default: work_dirs/predict/<name of the config or checkpoint>")
    parser.add_argument("--score-thr", type=float, default=0.3, help="detection: leave out boxes below (default: 0.3)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    add_config_options(parser)
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr {args.score_thr}: allowed 0 to 1")
    # The suffix tells a config from a checkpoint.
    args.config = args.inputs.pop(0) if args.inputs[0].endswith(CONFIG_SUFFIXES) else None
    args.checkpoint, *args.images = args.inputs or [None]
    if not args.images:
        parser.error("too few arguments; needed: [CONFIG] CHECKPOINT IMAGE_OR_FOLDER ...")
    return args


def without_results(paths: list[Path], given: list[str], out: Path) -> list[Path]:
    """Leaves out pictures of earlier predictions, if a given folder contains ``out``; UserError if no image is left."""
    given, out = {Path(path).resolve() for path in given}, out.resolve()
    kept = [path for path in paths if out in given or path.resolve() in given or out not in path.resolve().parents]
    if not kept:
        raise UserError(f"no images but earlier predictions, in {out}")
    return kept


def refuse_to_overwrite(inputs: list[Path], outputs: list[Path]) -> None:
    inputs = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in inputs:
            raise UserError(f"--out would overwrite the input {path}; choose another folder")


if __name__ == "__main__":
    run_tool(main)
