"""Writes the demo data: small data sets in the formats of ImageNet, COCO and ADE20K, offline and in seconds.

Scanned handwritten digits (scikit-learn's 8x8 scans) are painted on crops of photographs (scikit-image):

    OUT/digits/{train,val}/{0..9}/*.png                     one digit a picture, ImageNet layout
    OUT/coco/{train2017,val2017}/*.jpg                      scenes of one to five digits
    OUT/coco/annotations/instances_{train,val}2017.json     their boxes and masks, categories "0".."9"
    OUT/coco/annotations/panoptic_{train,val}2017.json      digits and what is behind them, maps in a folder
    OUT/ade/images/{training,validation}/*.jpg              the same scenes
    OUT/ade/annotations/{training,validation}/*.png         uint8: 0 unlabelled, 1 background, 2..11 digits 0..9
    OUT/photographs/*.jpg                                   a photograph, and the same with held-out digits
    OUT/demo_data.json                                      the options that the set was made with

Validation uses scans and parts of the photographs that training never sees. The same options give the same bytes.
A set of an older version has no panoptic files. --complete adds them, and leaves all other files as they are.
"""

import ziggurat.engine.start  # noqa: F401

import argparse
import colorsys
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scenes.panoptic_maps import SPLITS, has_panoptic, write_panoptic

from backbones import UserError
from ziggurat.engine.cli import Parser, run_tool

MANIFEST = "demo_data.json"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "brick", "grass", "gravel", "motorcycle", "coins")
TRAIN_SHARE = 0.7  # part of each photograph's width for training; the rest is for validation
TRAIN_SCANS = 0.8  # part of each digit's scans for training
BRIGHTNESS = (0.35, 0.65)  # photographs are dimmed by a factor in this range, so the digits stand out


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write (default: data/demo)")
    parser.add_argument("--num-train", type=int, default=800, help="scenes for training (default: 800)")
    parser.add_argument("--num-val", type=int, default=100, help="scenes for validation (default: 100)")
    parser.add_argument("--digits-train", type=int, default=6000, help="single digits for training (default: 6000)")
    parser.add_argument("--digits-val", type=int, default=720, help="single digits for validation (default: 720)")
    parser.add_argument(
        "--size", type=int, default=128, help="side of a scene in pixels; a single digit has half of it (default: 128)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace a set this tool wrote before")
    parser.add_argument(
        "--complete",
        action="store_true",
        help="only add to OUT what an older version did not write",
    )
    args = vars(parser.parse_args())
    if args.pop("complete"):
        print(f"{complete_demo_data(args['out'])}: complete")
        return
    out = make_demo_data(**args)
    digits, scenes = (f"{args[f'{kind}_train']} + {args[f'{kind}_val']}" for kind in ("digits", "num"))
    print(f"{out}: {digits} digits, {scenes} scenes")


def make_demo_data(
    out, num_train=800, num_val=100, digits_train=6000, digits_val=720, size=128, seed=0, overwrite=False
) -> Path:
    """Writes the three data sets under `out`, and returns `out` as a Path.

    num_train and num_val count scenes of (size, size) pixels. digits_train and digits_val count single digits of half
    that side. Everything is written beside `out` and renamed into place, so `out` is either absent, old or complete.

    Raises:
        UserError: a count is below 1, the size is below 64, or a folder would be overwritten without `overwrite`.
    """
    counts = dict(num_train=num_train, num_val=num_val, digits_train=digits_train, digits_val=digits_val)
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} {count}: at least 1 is needed")
    if size < 64:
        raise UserError(f"size {size}: a scene needs sides of at least 64 pixels")
    out = Path(out)
    check_target(out, overwrite)

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        beside.chmod(0o777 & ~current_umask())
        for split in SPLITS:
            write_digits(beside / "digits", split, counts[f"digits_{split}"], size // 2, seed)
            write_scenes(beside, split, counts[f"num_{split}"], size, seed)
            write_panoptic(beside, split, lambda index, split=split: PHOTOS[scene_start(split, index, seed)[1]])
        write_photographs(beside / "photographs", seed)
        (beside / MANIFEST).write_text(json.dumps(dict(counts, size=size, seed=seed), indent=2) + "\n")
        check_target(out, overwrite)
        if out.exists():
            shutil.rmtree(out)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def complete_demo_data(out) -> Path:
    """Adds the panoptic files to a set of an older version, and returns `out` as a Path.

    Raises:
        UserError: the folder holds no demo data.
    """
    out = Path(out)
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out}: no demo data to complete there; without --complete they are made")
    if not has_panoptic(out):
        seed = json.loads((out / MANIFEST).read_text())["seed"]
        for split in SPLITS:
            write_panoptic(out, split, lambda index, split=split: PHOTOS[scene_start(split, index, seed)[1]])
    return out


def check_target(out: Path, overwrite: bool):
    """Raises UserError unless `out` is absent, empty, or an older set of this tool that `overwrite` may replace."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out}: is a file; a folder is needed")
    if any(out.iterdir()):
        if not (out / MANIFEST).is_file():
            raise UserError(f"{out}: the folder holds other things than demo data; name a new or empty one")
        if not overwrite:
            raise UserError(f"{out}: there is demo data already; add --overwrite to replace it")


def write_digits(root: Path, split: str, count: int, size: int, seed: int):
    images, labels = scans(split, seed)
    for digit in range(10):
        (root / split / str(digit)).mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng([seed, SPLITS.index(split), 0, index])
        canvas = photo_crop(rng, photos(split)[rng.integers(len(PHOTOS))], size)
        k = index % len(labels)
        alpha = digit_alpha(rng, images[k], height=size * rng.uniform(0.6, 0.9), max_width=size - 4)
        top, left = (rng.integers(0, size - side + 1) for side in alpha.shape)
        paint(rng, canvas, alpha, top, left)
        to_image(canvas).save(root / split / str(labels[k]) / f"{index:05d}.png", compress_level=1)


def write_scenes(root: Path, split: str, count: int, size: int, seed: int):
    coco_split = f"{split}2017"
    ade_split = {"train": "training", "val": "validation"}[split]
    folders = [root / "coco" / coco_split, root / "ade/images" / ade_split, root / "ade/annotations" / ade_split]
    for folder in [*folders, root / "coco/annotations"]:
        folder.mkdir(parents=True, exist_ok=True)
    coco_images, ade_images, ade_masks = folders

    images, annotations = [], []
    for index in range(count):
        scene, instances = make_scene(split, index, size, seed)
        stem = f"{index + 1:012d}"
        to_image(scene).save(coco_images / f"{stem}.jpg", quality=92)
        shutil.copyfile(coco_images / f"{stem}.jpg", ade_images / f"{stem}.jpg")
        labels = np.ones((size, size), np.uint8)
        for digit, mask in instances:
            labels[mask] = digit + 2
            annotations.append(annotation(len(annotations) + 1, index + 1, digit, mask))
        Image.fromarray(labels).save(ade_masks / f"{stem}.png")
        images.append(dict(id=index + 1, file_name=f"{stem}.jpg", height=size, width=size))
    categories = [dict(id=digit + 1, name=str(digit), supercategory="digit") for digit in range(10)]
    coco = dict(
        info=dict(description="Handwritten digits on photographs"),
        images=images,
        annotations=annotations,
        categories=categories,
    )
    (root / f"coco/annotations/instances_{coco_split}.json").write_text(json.dumps(coco))


def write_photographs(folder: Path, seed: int):
    folder.mkdir()
    rng = np.random.default_rng([seed, 3])
    images, _ = scans("val", seed)
    whole = Image.fromarray(photo("coffee")).resize((512, 352), Image.Resampling.LANCZOS)
    whole.save(folder / "coffee.jpg", quality=92)
    canvas = np.asarray(whole, np.float32) / 255 * np.float32(max(BRIGHTNESS))
    for k in range(10):
        alpha = digit_alpha(rng, images[k], height=rng.uniform(48, 80), max_width=80)
        top, left = 20 + 180 * (k // 5) + rng.integers(60), 10 + 100 * (k % 5) + rng.integers(15)
        paint(rng, canvas, alpha, top, left)
    to_image(canvas).save(folder / "coffee_digits.jpg", quality=92)


def make_scene(split: str, index: int, size: int, seed: int):
    """A scene (size, size, 3) in 0..1, and one to five digits as [(digit, visible mask (size, size) bool)]."""
    rng, which = scene_start(split, index, seed)
    images, labels = scans(split, seed)
    canvas = photo_crop(rng, photos(split)[which], size)
    instances, taken = [], np.zeros((size, size), bool)
    wanted = rng.integers(1, 6)
    for _attempt in range(60):
        k = rng.integers(len(labels))
        alpha = digit_alpha(rng, images[k], height=size * rng.uniform(0.22, 0.45), max_width=size // 2)
        height, width = alpha.shape
        top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
        box = np.s_[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2]
        if taken[box].mean() > 0.02:  # boxes of digits may touch, strokes hardly
            continue
        mask = np.zeros((size, size), bool)
        mask[top : top + height, left : left + width] = alpha > 0.5
        if (mask & taken).any():
            continue
        paint(rng, canvas, alpha, top, left)
        taken |= mask
        instances.append((int(labels[k]), mask))
        if len(instances) == wanted:
            break
    return canvas, instances


def scene_start(split: str, index: int, seed: int):
    """The generator of a scene's random numbers, and the number of its photograph in PHOTOS, which is drawn first."""
    rng = np.random.default_rng([seed, SPLITS.index(split), 1, index])
    return rng, rng.integers(len(PHOTOS))


def annotation(annotation_id: int, image_id: int, digit: int, mask) -> dict:
    """A COCO annotation: uncompressed RLE (column by column), and the box x, y, width, height in pixels around it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    flat = mask.flatten(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    return dict(
        id=annotation_id,
        image_id=image_id,
        category_id=digit + 1,
        bbox=[int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1],
        area=int(mask.sum()),
        segmentation=dict(size=list(mask.shape), counts=[0, *counts] if flat[0] else counts),
        iscrowd=0,
    )


def photo_crop(rng, photo: Image.Image, size: int) -> np.ndarray:
    """A square piece of a photograph, dimmed, (size, size, 3) in 0..1."""
    longest = min(photo.size)
    side = rng.uniform(min(size, longest), longest)
    x, y = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side), reducing_gap=2)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(crop, np.float32) / 255 * np.float32(rng.uniform(*BRIGHTNESS))


def digit_alpha(rng, scan, height: float, max_width: int) -> np.ndarray:
    """A scan (8, 8) in 0..16 as a smooth, slightly turned stroke: (h, w) in 0..1, cropped to the values above 0.5."""
    ink = Image.fromarray(np.pad(scan, 3).astype(np.float32) / 16, mode="F")
    rows = np.flatnonzero((scan > 6).any(1))
    scale = height / (np.ptp(rows) + 1)
    side_y, side_x = round(ink.height * scale), round(ink.width * scale * rng.uniform(0.85, 1.15))
    ink = ink.resize((side_x, side_y), Image.Resampling.BICUBIC)
    ink = ink.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR)
    alpha = np.clip((np.asarray(ink) - 0.28) / 0.24, 0, 1)
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if alpha.shape[1] > max_width:
        narrower = Image.fromarray(alpha, mode="F").resize((max_width, alpha.shape[0]), Image.Resampling.BILINEAR)
        alpha = np.asarray(narrower)
    return alpha


def paint(rng, canvas: np.ndarray, alpha: np.ndarray, top: int, left: int):
    """Lays a digit of one bright colour over the canvas, in place. The photograph is darker everywhere."""
    window = canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.9, 1))
    window += alpha[..., None] * (np.float32(colour) - window)


def to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


@cache
def scans(split: str, seed: int):
    """The split's scans (N, 8, 8) in 0..16 and their labels (N,). Labels count 0, 1, ..., 9, 0, 1, ..."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng([seed, 2])
    chosen = []
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(data.target == digit))
        border = round(len(order) * TRAIN_SCANS)
        chosen.append(order[:border] if split == "train" else order[border:])
    shortest = min(map(len, chosen))
    chosen = np.stack([order[:shortest] for order in chosen], axis=1).ravel()
    return data.images[chosen], data.target[chosen]


@cache
def photos(split: str) -> list[Image.Image]:
    """The split's part of each photograph. The part is cut out first, since resizing reads pixels beyond its box."""
    sides = []
    for name in PHOTOS:
        pixels = photo(name)
        border = round(pixels.shape[1] * TRAIN_SHARE)
        sides.append(Image.fromarray(pixels[:, :border] if split == "train" else pixels[:, border:]).convert("RGB"))
    return sides


def photo(name: str) -> np.ndarray:
    """A photograph of scikit-image: (H, W) or (H, W, 3), uint8."""
    from skimage import data

    return data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    run_tool(main)
