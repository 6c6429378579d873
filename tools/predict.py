"""Predicts on your own images: for each a picture with the prediction drawn on it, and a JSON file.

python tools/predict.py CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]           a checkpoint of this project
python tools/predict.py WEIGHTS IMAGE_OR_FOLDER ... [--out DIR]              a published classifier: name, URL or file
python tools/predict.py MODEL IMAGE_OR_FOLDER ... [--out DIR]                a published detector or segmenter, by its
                                                                             config's name
python tools/predict.py CONFIG CHECKPOINT IMAGE_OR_FOLDER ... [--out DIR]    any other, with its config
python tools/predict.py FILE.onnx IMAGE_OR_FOLDER ... [--out DIR]            a whole model that tools/export.py wrote
python tools/predict.py CHECKPOINT FOLDER --format csv coco [--batch-size 64] [--workers 4]

    classification   <name>.png with the five best classes         <name>.json: labels, categories, scores
    detection        <name>.png with boxes and masks               <name>.json: boxes [x1, y1, x2, y2] in the image's
                                                                   pixels, scores, labels, categories, masks (COCO RLE)
    of a panoptic    <name>.png with all segments                  <name>.json: also the segments: id, label, category,
    model            panoptic/<name>.png, the ids in COCO's        isthing, area
                     colours
    segmentation     <name>.png tinted by class, with a legend     <name>.json: the classes present and their share
                     masks/<name>.png, class indices

Images are also given as patterns, 'photos/**/*.jpg', as a list in a .txt file, a path in each line, and as - for a list
on standard input. predictions.jsonl has a line for each image. A run that was stopped goes on with the same command.
Predictions with other options, or of another checkpoint, are not written over, unless --overwrite is given.

Videos are given like images, webcam or webcam:1 is a camera of this machine, and rtsp://... a stream. A video becomes
<name>.mp4, with the predictions drawn, and a line of predictions.jsonl for each frame, with its index and its time in
seconds. The other forms have its frames, too. Ctrl-C ends with files of what is done.

--format csv           predictions.csv
         coco          predictions.coco.json with scores, and masks as run lengths
         yolo          labels/<name>.txt and data.yaml: boxes, or outlines of masks; labels/<video>/frame_000012.txt
         masks         detection: masks/<name>.png, 16 bits, the number of an object in each of its pixels;
                       masks/<video>/frame_000012.png
         label-studio  predictions.label-studio.json, and .xml for its interface; of videos
                       predictions.label-studio-videos.json and .xml
         cvat          predictions.cvat.xml, "CVAT for images 1.1"; cvat/<video>.xml

An image that cannot be read, or has a side below 32 pixels, is named and skipped. The exit status is then 1.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backbones import UserError
from backbones.checks import check_int
from backbones.files import is_exported
from backbones.image_files import without_arrays
from backbones.reading import Reading
from ziggurat.engine.addresses import local
from ziggurat.engine.cli import CONFIG_SUFFIXES, WEIGHT_SUFFIXES, Parser, output_folder, run_tool
from ziggurat.engine.given import expanded, refuse_absent
from ziggurat.engine.places import place_of
from ziggurat.engine.predicted.formats import DEFAULT, FORMATS, PICTURES, check_formats, check_videos, write_summaries
from ziggurat.engine.predicted.inputs import (
    apart,
    is_any_video,
    list_inputs,
    refuse_to_overwrite,
    without_live,
    without_results,
)
from ziggurat.engine.predicted.videos import predict_videos
from ziggurat.engine.project_configs import config_named
from ziggurat.engine.tool_options import (
    add_config_options,
    add_download_option,
    add_max_pixels_option,
    add_runtime_option,
    add_tile_options,
    add_tta_option,
    add_video_options,
    given_tiles,
    max_pixels_options,
)

ANY_CHANNELS = Reading(channels=2)  # lists NumPy files too, before the network's channels are known
DEPENDS_ON = (
    "score_thr",
    "tile",
    "tile_overlap",
    "tta",
    "every",
    "max_frames",
    "cfg_options",
)  # options that change predictions


def main() -> int:
    args = parse_args()
    out = Path(args.out or Path("work_dirs/predict") / place_of(args.checkpoint))
    named, live = without_live(expanded(args.images))
    given = local(named, args.download)
    if not live:
        refuse_absent(given.paths)
    paths = without_results(list_inputs(given.paths, ANY_CHANNELS), given.paths, out) if named else []

    from ziggurat.engine import Predictor
    from ziggurat.engine.predicted.book import Book
    from ziggurat.engine.predicted.journal import Journal
    from ziggurat.engine.processes import pick_device
    from ziggurat.engine.signals import Stopped

    model = [args.config, args.checkpoint] if args.config else [args.checkpoint]
    changes = [*args.cfg_options, *max_pixels_options(args)]
    on_cpu = args.runtime is not None or is_exported(args.checkpoint)
    device = "cpu" if on_cpu and args.device is None else pick_device(args.device)
    options = dict(device=device, cfg_options=changes, batch_size=args.batch_size, runtime=args.runtime)
    predictor = Predictor(*model, **options, tile=args.tile, tile_overlap=args.tile_overlap, tta=args.tta)
    kind = predictor.task.result_type
    formats = check_formats(args.format, kind, predictor.task.name)
    paths = without_arrays(paths, given.paths) if named and predictor.reading.is_picture else paths
    paths += live
    given_videos = [str(path) for path in paths if is_any_video(path, live)]
    check_videos(given_videos, [str(path) for path in live], formats, kind, predictor.task.name)
    output_folder(out)
    with Journal(out, settings_of(args, predictor), args.overwrite, paths) as journal:
        images = journal.still_to_do(paths, [given.addresses.get(path, str(path)) for path in paths], kind, formats)
        pictures, videos = apart(images, live)
        refuse_to_overwrite(paths, journal.files_of(images, formats))
        journal.begin(images, formats, args.overwrite)
        skipped = list(predict(predictor, pictures, journal, formats, args))
        best = partial(above, score_thr=args.score_thr)
        stop = None
        try:
            skipped += predict_videos(predictor, videos, live, journal, formats, best, args.every, args.max_frames)
        except Stopped as signal:  # the frames until then are in all files
            stop = signal
        journal.tidy()
        notes = write_summaries(Book(out, predictor.names, journal.rows), kind, formats)

    there = f" ({len(paths) - len(images)} were there already)" if len(images) < len(paths) else ""
    what = "images and videos" if videos else "images"
    if stop is None:
        print(f"{len(paths) - len(skipped)} of {len(paths) + len(given.problems)} {what}: {out}{there}")
    else:
        print(f"stopped: what is done is in {out}")
    for note in notes:
        print(f"not in it: {note}", file=sys.stderr)
    skipped += given.problems
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if stop is not None:
        raise stop
    return 1 if skipped else 0


def settings_of(args: argparse.Namespace, predictor: Any) -> dict[str, Any]:
    """What the predictions depend on, in JSON's types."""
    from backbones.weights.digest import sha256_of_content
    from ziggurat.engine.wrappers import unwrap

    options = {name: getattr(args, name) for name in DEPENDS_ON} | {"every": args.every or 1}
    model = unwrap(predictor.model)
    weights = getattr(model, "digest", None) or sha256_of_content(dict(model.state_dict()))
    return dict(options, classes=predictor.names, weights=weights[:12])


def predict(
    predictor: Any, images: Sequence[Any], journal: Any, formats: Sequence[str], args: argparse.Namespace
) -> Iterator[str]:
    """Predicts on images, writes their files and records them. Yields a message for each image that is skipped."""
    for number, result in shown(predictor.each([image.path for image in images], args.workers), len(images)):
        try:
            save(predictor, result, images[number], journal, formats, args.score_thr)
        except UserError as error:
            tqdm.write(f"skipped: {error}", file=sys.stderr)
            yield str(error)


def shown(results: Iterator[Any], count: int) -> Iterator[Any]:
    """Passes on the results of ``count`` images, and shows how many there were: a bar, elsewhere lines."""
    bar = tqdm(total=count, unit="image", disable=None if count else True)
    for done, result in enumerate(results, 1):
        yield result
        bar.update()
        if bar.disable and done % 100 == 0:
            print(f"{done}/{count}", flush=True)
    bar.close()


def save(predictor: Any, result: Any, image: Any, journal: Any, formats: Sequence[str], score_thr: float) -> None:
    """Writes the files of an image's result, and records it. Raises a result that is an error."""
    from backbones.images import upright_size
    from ziggurat.engine.predicted.files import write_files

    if isinstance(result, UserError):
        raise result
    result = above(result, score_thr)
    picture = predictor.draw(image.path, result) if PICTURES in formats else None
    width, height = upright_size(image.path, predictor.reading)
    described = {"image": image.name, "width": width, "height": height, **predictor.describe(result)}
    write_files(journal.out, image.stem, result, described, picture, formats)
    journal.add(described | {"file": image.stem, "modified": image.modified})


def above(result: Any, score_thr: float) -> Any:
    """A result without the objects of lower scores."""
    return result.above(score_thr) if hasattr(result, "above") else result


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[CONFIG] CHECKPOINT IMAGE",
        help="the config that the checkpoint was trained with, if the checkpoint does not carry it; a checkpoint, e.g. "
        "work_dirs/<config name>/epoch_12.pth, or the name, URL or file of a published classifier; image and video "
        "files, folders that are searched for both, webcam, patterns, and lists in .txt files",
    )
    parser.add_argument("--out", metavar="DIR", help="default: work_dirs/predict/<run>/<checkpoint>")
    parser.add_argument(
        "--format",
        nargs="+",
        default=list(DEFAULT),
        metavar="FORMAT",
        help=f"what is written (default: {' '.join(DEFAULT)}): {', '.join(FORMATS)}. predictions.jsonl always is",
    )
    parser.add_argument("--overwrite", action="store_true", help="first remove the predictions that are there")
    add_download_option(parser)
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images computed at a time (default: 1)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images (default: 0)")
    parser.add_argument(
        "--score-thr", type=float, default=0.3, metavar="S", help="detection: leave out lower scores (default: 0.3)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if there is a GPU")
    add_runtime_option(parser)
    add_tta_option(parser)
    add_tile_options(parser)
    add_max_pixels_option(parser)
    add_video_options(parser)
    add_config_options(parser)
    args = parser.parse_args()
    given_tiles(args)
    if not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr {args.score_thr}: allowed 0 to 1")
    check_int("--batch-size", args.batch_size, 1, None)
    check_int("--workers", args.workers, 0, None)
    if args.inputs and is_exported(described := args.inputs[0].removesuffix(".json")) and described != args.inputs[0]:
        raise UserError(f"{args.inputs[0]} tells of an exported file; allowed: {described}")
    args.config = args.inputs.pop(0) if begins_with_config(args.inputs) else None
    args.checkpoint, *args.images = args.inputs or [None]
    if not args.images:
        parser.error("too few arguments; needed: [CONFIG] CHECKPOINT IMAGE_OR_FOLDER ...")
    return args


def begins_with_config(inputs: list[str]) -> bool:
    """Whether a config comes first: a file, or a name that weights follow. A name alone is of published weights."""
    first, second = [*inputs, ""][:2]
    is_named = second.lower().endswith(WEIGHT_SUFFIXES) and config_named(first) is not None
    return first.endswith(CONFIG_SUFFIXES) or is_named


if __name__ == "__main__":
    run_tool(main)
