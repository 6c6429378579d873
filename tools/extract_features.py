"""Writes the feature maps of images: one .npz per image, and with --pca a picture of each map.

python tools/extract_features.py ARCH IMAGE_OR_FOLDER ... [--pretrained WEIGHTS] [--out DIR] [--pca]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from backbones import FeatureExtractor, UserError
from backbones.features import pca_colours
from backbones.images import list_images, output_stems
from engine.cli import Parser, output_folder, run_tool

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> None:
    args = parse_args()
    paths = list_images(args.images)
    extractor = FeatureExtractor(
        args.arch, args.out_indices, args.pretrained, args.device, DTYPES[args.dtype], short_side=args.short_side
    )
    if args.pretrained is None:
        print(f"note: without --pretrained the weights of {args.arch} are random", file=sys.stderr)
    print(f"normalised with {extractor.statistics}")
    out = output_folder(args.out)
    index, skipped = [], []
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
        index.append({"image": str(path), "file": f"{stem}.npz", "size": list(pyramid.image_sizes[0]), "maps": shapes})
    strides = {f"stage{i}": info.stride for i, info in zip(extractor.net.out_indices, extractor.feature_info)}
    content = {"arch": args.arch, "pretrained": args.pretrained, "statistics": extractor.statistics._asdict()}
    content |= {"strides": strides, "images": index}
    (out / "features.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"{len(index)} of {len(paths)} images: maps and features.json in {out}")
    if skipped:
        print("\n".join(f"skipped: {line}" for line in skipped), file=sys.stderr)
        sys.exit(1)


def parse_args() -> argparse.Namespace:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("arch", help="one of the names that tools/model_info.py lists")
    parser.add_argument("images", nargs="+", help="image files, or folders that are searched for images")
    parser.add_argument(
        "--pretrained", help="weights: a name of the weights table, a URL or a file (default: random weights)"
    )
    parser.add_argument("--out-indices", nargs="+", type=int, default=[0, 1, 2, 3], help="stages whose maps are saved")
    parser.add_argument("--out", default="work_dirs/features", help="folder for the results (default: %(default)s)")
    parser.add_argument(
        "--short-side", type=int, metavar="PIXELS", help="resize each image to this shorter side (default: no resizing)"
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
