"""Times the data loader of a classification config: images per second of one core, and where the time goes.

python tools/bench/benchmark_loader.py [CONFIG] [--size 375x500] [--images 120] [--repeats 15]
    [--out docs/benchmarks/loader_cpu.json]

The images are JPEG files made from photographs of scikit-image. The figures are CPU time, the best of several runs with
the same random numbers: the time on the clock depends on the other work of the machine.
"""

import io
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import torch
import torch.nn.functional as F
from mmengine.dataset import default_collate
from PIL import Image, ImageOps
from skimage import data as photographs
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.functional import resized_crop

from backbones.images import read_image
from classification import TASK
from classification.data import as_tensor
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import count, height_and_width

CONFIG = "classification/configs/van/van_b0_8xb128_in1k.py"
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
QUALITY = 95  # as of ImageNet's files
BATCH = 60
TIMES = 5  # that a worker passes over the images, since starting it takes as long as reading some dozens


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("config", nargs="?", default=CONFIG, help=f"config of a training (default: {CONFIG})")
    parser.add_argument(
        "--size", type=height_and_width, default=(375, 500), metavar="HxW", help="of images (default: 375x500)"
    )
    parser.add_argument("--images", type=count, default=120, help="number of images (default: 120)")
    parser.add_argument("--repeats", type=count, default=15, help="timed runs of each part (default: 15)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), args.images, args.size[::-1])
        cfg = load_config(args.config, {"data_root": folder, "train_dataloader.num_workers": 0})
        dataset = TASK.build_dataset(cfg, "train")
        loaders = {
            "without workers": partial(run_through, dataset, 0),
            "with a worker, both processes": partial(run_through, ConcatDataset([dataset] * TIMES), 1),
        }
        parts = steps(dataset)
        others = tried(dataset, paths)
        both = {(row["name"], key): row.pop(key) for row in others for key in ("new", "now")}
        least = best({**loaders, **parts, **both}, args.repeats)
        report = {
            "machine": machine(torch.device("cpu")) | {"pillow": PIL.__version__},
            "images": {
                "width": args.size[1],
                "height": args.size[0],
                "kib": round(sum(path.stat().st_size for path in paths) / len(paths) / 1024),
                "config": args.config,
            },
            "repeats": args.repeats,
            "loader": {name: len(call.args[0]) / least[name] for name, call in loaders.items()},
            "steps": {name: 1e3 * least[name] / len(paths) for name in parts},
            "tried": [
                {
                    "name": row["name"],
                    "ms": 1e3 * least[row["name"], "new"] / len(paths),
                    "now_ms": 1e3 * least[row["name"], "now"] / len(paths),
                    "effect": row["effect"],
                }
                for row in others
            ],
        }
    for part in ("loader", "steps"):
        for name, value in report[part].items():
            print(f"{name:<44}{value:8.2f} {'images/s per core' if part == 'loader' else 'ms'}")
    for row in report["tried"]:
        print(f"tried: {row['name']:<37}{row['ms']:8.2f} ms (now {row['now_ms']:.2f}); {row['effect']}")
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")
        print(f"figures: {args.out}")


def write_images(root: Path, number: int, wanted: tuple[int, int]) -> list[Path]:
    """JPEG files in ImageNet's layout, cut from photographs at places that move from image to image.

    Args:
        root: the folder; ``train/photographs`` and ``val/photographs`` are made in it.
        number: how many.
        wanted: width and height.
    """
    for split in ("train", "val"):
        (root / split / "photographs").mkdir(parents=True)
    paths = []
    for i in range(number):
        photo = Image.fromarray(getattr(photographs, PHOTOGRAPHS[i % len(PHOTOGRAPHS)])())
        place = i / number
        paths.append(root / f"train/photographs/{i:04}.jpg")
        ImageOps.fit(photo, wanted, Image.Resampling.BICUBIC, centering=(place, place)).save(paths[-1], quality=QUALITY)
    return paths


def best(calls: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """The least CPU seconds of each call, in this process and its finished children.

    All calls run in turn, so the other work of the machine meets all of them. The first round does not count.
    """
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(repeats + 1)][1:]
    return {name: min(one[name] for one in rounds) for name in calls}


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call that starts with fixed random numbers."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    start = cpu_time()
    call()
    return cpu_time() - start


def cpu_time() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def run_through(dataset: Dataset, workers: int) -> None:
    """One pass over a data set, in batches."""
    for _ in DataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=default_collate):
        pass


def steps(dataset: Any) -> dict[str, Callable[[], Any]]:
    """Reading all images, each transform of all, and putting all into batches."""
    images = [dataset.read(i) for i in range(len(dataset))]
    found: dict[str, Callable[[], Any]] = {"read and decode": partial(each, dataset.read, range(len(dataset)))}
    for step in dataset.transform.transforms:
        found[type(step).__name__] = partial(each, step, images)
        images = [step(image) for image in images]
    items = [{"inputs": as_tensor(image), "data_samples": 0} for image in images]
    found["batch"] = partial(each, default_collate, [items[i : i + BATCH] for i in range(0, len(items), BATCH)])
    return found


def each(call: Callable[[Any], Any], inputs: Sequence[Any]) -> None:
    for one in inputs:
        call(one)


def tried(dataset: Any, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """What could replace a step: other decoders, half scale, another resize.

    Returns:
        A dict for each: ``name``, ``new`` and ``now`` (calls for all images), and ``effect`` on the pixels.
    """
    contents = [path.read_bytes() for path in paths]
    images = [read_image("image", content) for content in contents]
    now = partial(each, partial(read_image, "image"), contents)
    rows = []
    for name, decode in (("decode by torchvision", by_torchvision), ("decode by OpenCV", by_opencv)):
        effect = described(map(decode, contents), images)
        rows.append({"name": name, "new": partial(each, decode, contents), "now": now, "effect": effect})
    crop = next(step for step in dataset.transform.transforms if isinstance(step, RandomResizedCropAndInterpolation))
    random.seed(0)
    boxes = [crop.get_params(image, crop.scale, crop.ratio) for image in images]
    side = crop.size[0]
    allowed = sum(min(height, width) >= 2 * side for _, _, height, width in boxes) / len(boxes)
    full, half = (
        [resized_crop(image, 0, 0, image.height, image.width, crop.size) for image in decoded]
        for decoded in (images, map(at_half_scale, contents))
    )
    effect = f"{described(half, full)} for whole images at {side} pixels; {allowed:.0%} of the crops are large enough"
    new = partial(each, at_half_scale, contents)
    rows.append({"name": "decode at half scale (draft)", "new": new, "now": now, "effect": effect})
    pairs = list(zip(images, boxes, strict=True))
    for mode in ("bilinear", "bicubic"):
        by_pillow = partial(crop_by_pillow, side=side, mode=mode)
        by_torch = partial(crop_by_torch, side=side, mode=mode)
        effect = described(map(by_torch, pairs), list(map(by_pillow, pairs)))
        both = {"new": partial(each, by_torch, pairs), "now": partial(each, by_pillow, pairs)}
        rows.append({"name": f"resize by torch, {mode}", **both, "effect": effect})
    return rows


def by_torchvision(content: bytes) -> Image.Image:
    pixels = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def by_opencv(content: bytes) -> Image.Image:
    return Image.fromarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))


def at_half_scale(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (image.width // 2, image.height // 2))
    image.load()
    return image


def crop_by_pillow(pair: tuple[Image.Image, tuple[int, int, int, int]], side: int, mode: str) -> Image.Image:
    image, (top, left, height, width) = pair
    return image.crop((left, top, left + width, top + height)).resize((side, side), Image.Resampling[mode.upper()])


def crop_by_torch(pair: tuple[Image.Image, tuple[int, int, int, int]], side: int, mode: str) -> Image.Image:
    image, (top, left, height, width) = pair
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + width, top + height)))).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, (side, side), mode=mode, antialias=True)
    return Image.fromarray(small[0].permute(1, 2, 0).contiguous().numpy())


def described(found: Any, wanted: Sequence[Image.Image]) -> str:
    """How far images are from others, in levels of 255."""
    gaps = [np.abs(np.asarray(a, int) - np.asarray(b, int)) for a, b in zip(found, wanted, strict=True)]
    largest, mean = max(int(gap.max()) for gap in gaps), float(np.mean([gap.mean() for gap in gaps]))
    return f"off by {mean:.2g} of 255 on average, {largest} at most" if largest else "the same pixels"


if __name__ == "__main__":
    run_tool(main)
