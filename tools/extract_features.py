"""Writes the feature maps of images: one .npz per image, and with --pca a picture of each map.

python tools/extract_features.py WEIGHTS IMAGE_OR_FOLDER ... [--out DIR] [--pca]
python tools/extract_features.py ARCH IMAGE_OR_FOLDER ... [--pretrained WEIGHTS] [--out DIR] [--pca]

An image that cannot be read, or has a side below 32 pixels, is named and skipped. The exit status is then 1.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from backbones import WEIGHTS, FeatureExtractor, UserError, list_archs
from backbones.errors import unknown
from backbones.features import pca_colours
from backbones.image_files import list_images, output_stems
from backbones.reading import Reading
from ziggurat.engine.addresses import local
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.given import expanded
from ziggurat.engine.options import parse_options
from ziggurat.engine.places import place_of
from ziggurat.engine.tool_options import add_download_option

ANY_CHANNELS = Reading(channels=2)  # lists NumPy files too, before the network's channels are known
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> None:
    args = parse_args()
    given = local(expanded(args.images), args.download)
    list_images(given.paths, ANY_CHANNELS)  # says what is absent before weights are read
    arch, weights = arch_and_weights(args.model, args.pretrained)
    how = {"short_side": args.short_side, "which": args.which}
    if args.reading:
        how["reading"] = parse_options(args.reading)
    extractor = FeatureExtractor(arch, args.out_indices, weights, args.device, DTYPES[args.dtype], **how)
    arch = extractor.net.arch
    if weights is None:
        print(f"note: without --pretrained the weights of {arch} are random", file=sys.stderr)
    print(f"normalised with {extractor.statistics}")
    paths = list_images(given.paths, extractor.reading)
    out = output_folder(args.out or Path("work_dirs/features") / (place_of(weights) if weights else arch))
    index, skipped = [], list(given.problems)
    for path, stem in zip(tqdm(paths, unit="image", disable=None), output_stems(paths), strict=True):
        try:
            pyramid = extractor(path)
        except UserError as error:
            skipped.append(str(error))
            continue
        arrays = {f"stage{i}": m.float().cpu().numpy() for i, m in zip(extractor.net.out_indices, pyramid.of(0))}
        np.savez_compressed(out / f"{stem}.npz", **arrays)
        if args.pca:
            save_pca(pyramid, out / f"{stem}_pca.png")
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        name = given.addresses.get(path, str(path))
        index.append({"image": name, "file": f"{stem}.npz", "size": list(pyramid.image_sizes[0]), "maps": shapes})
    strides = {f"stage{i}": info.stride for i, info in zip(extractor.net.out_indices, extractor.feature_info)}
    content = {"arch": arch, "pretrained": weights, "statistics": extractor.statistics._asdict()}
    content |= {"reading": extractor.reading._asdict(), "strides": strides, "images": index}
    (out / "features.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"{len(index)} of {len(paths) + len(given.problems)} images: maps and features.json in {out}")
    if skipped:
        print("\n".join(f"skipped: {line}" for line in skipped), file=sys.stderr)
        sys.exit(1)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model",
        metavar="WEIGHTS_OR_ARCH",
        help="weights, as a name of the weights table, a URL or a file; or an arch that tools/model_info.py lists",
    )
    parser.add_argument(
        "images", nargs="+", help="image files, folders that are searched for images, patterns, and lists in .txt files"
    )
    parser.add_argument(
        "--pretrained", metavar="WEIGHTS", help="the weights of an arch, as above (default: random weights)"
    )
    parser.add_argument("--which", help="if the file holds several sets: ema (default), raw or an entry's name")
    parser.add_argument("--out-indices", nargs="+", type=int, default=[0, 1, 2, 3], help="stages whose maps are saved")
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
    parser.add_argument(
        "--pca", action="store_true", help="also write pictures: principal components of each map as colours"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type to compute in (default: float32); files hold float32",
    )
    return parser.parse_args()


def arch_and_weights(model: str, pretrained: str | None) -> tuple[str | None, str | None]:
    """The arch and the weights that the arguments name. None is the arch of the weights, and random weights."""
    if model in list_archs():
        return model, pretrained
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
