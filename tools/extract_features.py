"""Writes the features of images: a file per image with its maps, or a store of any number of images.

python tools/extract_features.py WEIGHTS IMAGE_OR_FOLDER ... [--out DIR] [--pca]
python tools/extract_features.py ARCH IMAGE_OR_FOLDER ... [--pretrained WEIGHTS] [--out DIR] [--pca]
python tools/extract_features.py FILE.onnx IMAGE_OR_FOLDER ... [--out DIR]   a backbone that tools/export.py wrote
python tools/extract_features.py WEIGHTS SHARDS_OR_FOLDERS ... --form store [--pool mean] [--stages 2,3]

An image that cannot be read, or has a side below 32 pixels, is named and skipped. The exit status is then 1. A store
records such images with the reason, and the exit status is 0. docs/features.md shows what a store is.
Eight processes share the images of a store: ziggurat launch 8 features WEIGHTS FOLDER --form store
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from backbones import WEIGHTS, FeatureExtractor, UserError, list_archs
from backbones.colours import pca_colours
from backbones.errors import unknown
from backbones.files import is_exported
from backbones.image_files import list_images, output_stems
from backbones.reading import Reading
from backbones.store import StoreWriter
from backbones.store.layout import INDEX
from backbones.store.writer import DTYPES as SAVED
from ziggurat.engine.addresses import Local, local
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.features.budget import budget_of, check_space, free_space
from ziggurat.engine.features.network import network_of
from ziggurat.engine.features.on_ray import Plan, when_free, write_on_ray
from ziggurat.engine.features.options import Joined, add_store_options, check_form, stage_numbers
from ziggurat.engine.features.processes import Process, device_of, this_process
from ziggurat.engine.features.run import about, settings_of, write_features
from ziggurat.engine.features.sources import images_of
from ziggurat.engine.given import expanded, refuse_absent
from ziggurat.engine.options import parse_options
from ziggurat.engine.places import place_of
from ziggurat.engine.tool_options import add_download_option, add_runtime_option

ANY_CHANNELS = Reading(channels=2)  # lists NumPy files too, before the network's channels are known
LONG = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPES = SAVED | LONG
SHORT = {dtype: name for name, dtype in SAVED.items()}


def main() -> int | None:
    args = parse_args()
    if args.device is None:
        on_cpu = args.runtime is not None or is_exported(args.model)
        args.device = "cuda" if torch.cuda.is_available() and not on_cpu else "cpu"
    check_form(args)
    process = this_process(args.launcher)
    given = local(expanded(args.images), args.download)
    refuse_absent(given.paths)
    if args.form == "npz":
        list_images(given.paths, ANY_CHANNELS)  # says what is absent before weights are read
    arch, weights = arch_and_weights(args.model, args.pretrained)
    how = {"short_side": args.short_side, "which": args.which}
    if args.reading:
        how["reading"] = parse_options(args.reading)
    device = "cpu" if args.engine == "ray" else device_of(args.device, args.launcher)  # Ray's actors have the GPUs
    network = {"arch": arch, "stages": args.stages, "weights": weights, "dtype": DTYPES[args.dtype]}
    network |= {"runtime": args.runtime, **how}
    extractor = network_of(**network, device=device)
    arch = extractor.net.arch
    if process.rank == 0:
        if weights is None:
            print(f"note: without --pretrained the weights of {arch} are random", file=sys.stderr)
        print(f"normalised with {extractor.statistics}")
    out = Path(args.out or Path("work_dirs/features") / (place_of(weights) if weights else arch))
    if args.form == "npz":
        return write_files(extractor, weights, given, out, args.pca, args.overwrite)
    return write_store(extractor, network, given, out, process, args)


def write_files(
    extractor: FeatureExtractor, weights: str | None, given: Local, out: Path, pca: bool, overwrite: bool
) -> int:
    """Writes one .npz for each image. Returns the exit status.

    Raises:
        UserError: a file is there already, and ``overwrite`` is not given. Nothing is written then.
    """
    paths = list_images(given.paths, extractor.reading)
    stems = output_stems(paths)
    names = [f"{stem}{end}" for stem in stems for end in ((".npz", "_pca.png") if pca else (".npz",))]
    there = next((name for name in ("features.json", *names) if (out / name).exists()), None)
    if there is not None and not overwrite:
        raise UserError(f"--out {out} holds {there} already; allowed: another --out, or --overwrite to replace files")
    out = output_folder(out)
    index, skipped = [], list(given.problems)
    for path, stem in zip(tqdm(paths, unit="image", disable=None), stems, strict=True):
        try:
            pyramid = extractor(path)
        except UserError as error:
            skipped.append(str(error))
            continue
        arrays = {f"stage{i}": m.float().cpu().numpy() for i, m in zip(extractor.net.out_indices, pyramid.of(0))}
        np.savez_compressed(out / f"{stem}.npz", **arrays)
        if pca:
            save_pca(pyramid, out / f"{stem}_pca.png")
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        name = given.addresses.get(path, str(path))
        index.append({"image": name, "file": f"{stem}.npz", "size": list(pyramid.image_sizes[0]), "maps": shapes})
    strides = {f"stage{i}": info.stride for i, info in zip(extractor.net.out_indices, extractor.feature_info)}
    content = {"arch": extractor.net.arch, "pretrained": weights, "statistics": extractor.statistics._asdict()}
    content |= {"reading": extractor.reading._asdict(), "strides": strides, "images": index}
    (out / "features.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"{len(index)} of {len(paths) + len(given.problems)} images: maps and features.json in {out}")
    if skipped:
        print("\n".join(f"skipped: {line}" for line in skipped), file=sys.stderr)
    return 1 if skipped else 0


def write_store(
    extractor: FeatureExtractor,
    network: dict[str, Any],
    given: Local,
    out: Path,
    process: Process,
    args: argparse.Namespace,
) -> None:
    """Adds the images that a store does not have yet. One process of a run does its share."""
    for problem in given.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    images = images_of(given, extractor.reading)
    pool, dtype = args.pool, args.save_dtype or SHORT[DTYPES[args.dtype]]
    out, weights = output_folder(out), network["weights"]
    settings = settings_of(extractor, weights, pool, dtype, args.which)
    is_first = process.rank == 0
    opened = partial(
        StoreWriter,
        out,
        settings,
        dense=pool is None,
        rank=process.rank,
        run=process.run,
        about=about(extractor, weights),
        overwrite=args.overwrite,
        **args.shard_size,
    )
    with when_free(opened) if args.engine == "ray" else opened() as writer:
        share = process.share(images)
        rest = [image for image in share if image.name not in writer.done]
        if is_first:
            budget, free = budget_of(extractor, images, dtype, pool), free_space(out)
            print(budget.line(dtype, pool, free), flush=True)
            check_space(out, budget.chosen(pool, len(rest) * process.count / max(1, len(images))), free)
            if len(rest) < len(share):
                print(f"{len(share) - len(rest)} of {len(share)} images are in {out} already", flush=True)
        with tqdm(total=len(rest), unit="image", disable=None if is_first else True) as bar:
            how = pool, args.batch_size, args.workers
            if args.engine == "ray":
                plan = Plan(network, args.device, str(out.resolve()), process.run, dtype, args.shard_size, *how)
                counts = write_on_ray(plan, rest, args.ray_address, args.ray_workers, bar.update)
            else:
                counts = write_features(extractor, rest, writer, *how, bar.update)
    who = f"process {process.rank} of {process.count}: " if process.count > 1 else ""
    print(f"{who}{counts.written} images written, {counts.unreadable} could not be read; the store is {out}")
    if counts.unreadable:
        print(f"note: the column 'reason' of {out / INDEX} says why images could not be read", file=sys.stderr)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model",
        metavar="WEIGHTS_OR_ARCH",
        help="weights, as a name of the weights table, a URL or a file; or an arch that tools/model_info.py lists",
    )
    parser.add_argument(
        "images",
        nargs="+",
        help="image files, folders that are searched for images, patterns, and lists in .txt files; with --form store "
        "also .tar shards, and tables in .parquet and .arrow files",
    )
    parser.add_argument(
        "--pretrained", metavar="WEIGHTS", help="the weights of an arch, as above (default: random weights)"
    )
    parser.add_argument("--which", help="if the file holds several sets: ema (default), raw or an entry's name")
    parser.add_argument(
        "--stages",
        "--out-indices",
        nargs="+",
        type=stage_numbers,
        action=Joined,
        default=[0, 1, 2, 3],
        metavar="STAGE",
        help="stages whose maps are saved, such as 2,3 (default: all)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the results (default: work_dirs/features/<model>)")
    add_download_option(parser)
    parser.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="resize each image to this shorter side (default: no resizing)"
    )
    parser.add_argument(
        "--reading",
        nargs="+",
        metavar="KEY=VALUE",
        help="how files are read, e.g. value_range=[0,4095] alpha=[255,255,255] upright=false (default: as the images "
        "that the weights were trained on)",
    )
    parser.add_argument("--device", help="default: cuda if there is a GPU")
    add_runtime_option(parser)
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="fp32",
        help="type to compute in (default: fp32). A store has this type, too, unless --save-dtype says another; .npz "
        "files always hold float32",
    )
    parser.add_argument(
        "--form",
        choices=["npz", "store"],
        default="npz",
        help="npz: a file for each image (default). store: a folder of large shards with an index, for any number of "
        "images; the same command goes on after a stop",
    )
    parser.add_argument(
        "--pca", action="store_true", help="of --form npz: also write principal components of each map as colours"
    )
    add_store_options(parser)
    return parser.parse_args()


def arch_and_weights(model: str, pretrained: str | None) -> tuple[str | None, str | None]:
    """The arch and the weights that the arguments name. None is the arch of the weights, and random weights."""
    if model in list_archs():
        return model, pretrained
    if is_exported(model) and not Path(model).is_file():
        raise UserError(f"no such exported file: {model}")
    if model not in WEIGHTS and "://" not in model and not Path(model).exists():
        raise unknown("arch or weights", model, [*list_archs(), *WEIGHTS])
    if pretrained is not None:
        raise UserError(f"{model} and --pretrained {pretrained} are both weights; allowed: an arch with --pretrained")
    return None, model


def save_pca(pyramid: tuple[torch.Tensor, ...], path: Path) -> None:
    """Writes the maps as colours side by side, each enlarged to the size of the first."""
    tiles = [Image.fromarray(pca_colours(m[0])) for m in pyramid]
    scale = max(1, round(256 / tiles[0].height))
    width, height = tiles[0].width * scale, tiles[0].height * scale
    sheet = Image.new("RGB", (len(tiles) * (width + 8) - 8, height), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile.resize((width, height), Image.Resampling.NEAREST), (i * (width + 8), 0))
    sheet.save(path)


if __name__ == "__main__":
    run_tool(main)
