"""Kills an extraction of features again and again, compares its store row by row, and times it beside plain loops.

python tools/bench/benchmark_features.py [--images 5000] [--kills 10] [--repeats 5]
    [--out docs/benchmarks/features/features_cpu.json]

The images are crops of scikit-image's photographs, 96 to 224 pixels a side. The ways to compute features take turns in
one process, so that other work of the machine meets all of them.
"""

import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from skimage import data as photographs
from torch.utils.data import DataLoader, Dataset

import backbones.timm  # noqa: F401  registers the networks
from backbones import FeatureExtractor
from backbones.files import write_json
from backbones.pooling import mean
from backbones.store import FeatureStore, StoreWriter
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.features.run import settings_of, write_features
from ziggurat.engine.features.sources import FileImage
from ziggurat.engine.machine import machine
from ziggurat.engine.tool_options import count

ROOT = Path(__file__).resolve().parent.parent.parent
ARCH, STAGES = "van_b0", (1, 2, 3)
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SIDES = (96, 112, 128, 160, 224)
TIMED = 320  # images of a timed pass
BATCH, WORKERS = 32, 1
LEAST, MOST = 1.0, 25.0  # seconds from the start of a run to its kill


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=count, default=5000, help="of the killed run (default: 5000)")
    parser.add_argument("--kills", type=count, default=10, help="kills at random moments (default: 10)")
    parser.add_argument("--repeats", type=count, default=5, help="timed passes of each way (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        mixed = write_images(place / "mixed", args.images)
        equal = write_images(place / "equal", TIMED, sides=(224,))
        report = {
            "machine": machine(torch.device("cpu"), "timm", "safetensors", "pyarrow"),
            "arch": ARCH,
            "stages": list(STAGES),
            "threads": torch.get_num_threads(),
            "kills": kill_run(place, args.kills),
            "rates": [
                {"images": name, "count": len(paths), **row}
                for name, paths in (("96 to 224 pixels", mixed[:TIMED]), ("224x224 pixels", equal))
                for row in rates(paths, place / "timed", args.repeats)
            ],
        }
    if args.out:
        write_json(args.out, report)


def write_images(folder: Path, number: int, sides: Sequence[int] = SIDES) -> list[Path]:
    """Writes crops of photographs as JPEG files, each side one of ``sides``."""
    choose, sources = random.Random(0), [getattr(photographs, name)()[..., :3] for name in PHOTOGRAPHS]
    folder.mkdir()
    for i in range(number):
        source, height, width = choose.choice(sources), choose.choice(sides), choose.choice(sides)
        top, left = (choose.randrange(side - size) for side, size in zip(source.shape, (height, width)))
        crop = Image.fromarray(np.ascontiguousarray(source[top : top + height, left : left + width]))
        crop.save(folder / f"{i:06d}.jpg", quality=90)
    return sorted(folder.iterdir())


def kill_run(place: Path, kills: int) -> dict[str, Any]:
    """One run to its end, and one that is killed and started again; their stores are compared."""
    command = [sys.executable, "tools/extract_features.py", ARCH, place / "mixed", "--form", "store", "--device", "cpu"]
    command += ["--stages", *STAGES, "--pool", "mean", "--shard-size", 64, "--workers", WORKERS, "--out"]
    command = list(map(str, command))
    start = time.perf_counter()
    subprocess.run([*command, str(place / "whole")], cwd=ROOT, check=True)
    seconds = time.perf_counter() - start
    choose, moments, rows = random.Random(1), [], []
    for _ in range(kills):
        run = subprocess.Popen([*command, str(place / "killed")], cwd=ROOT, stdout=subprocess.DEVNULL)
        wait = choose.uniform(LEAST, MOST)
        time.sleep(wait)
        ended = run.poll() is not None
        run.send_signal(signal.SIGKILL)
        run.wait()
        if ended:
            raise RuntimeError("a run ended before its kill; give more --images")
        there = (place / "killed/meta.json").exists()
        rows.append(len(FeatureStore(place / "killed")) if there else 0)
        moments.append(round(wait, 2))
    subprocess.run([*command, str(place / "killed")], cwd=ROOT, check=True)
    return compared(FeatureStore(place / "whole"), FeatureStore(place / "killed")) | {
        "images": len(list((place / "mixed").iterdir())),
        "kills": kills,
        "seconds_to_kill": moments,
        "rows_after_kill": rows,
        "seconds_of_whole_run": round(seconds, 1),
        "files_left": sum(path.name.endswith(".tmp") for path in (place / "killed").rglob("*")),
    }


def compared(whole: FeatureStore, killed: FeatureStore) -> dict[str, Any]:
    """Rows that one store lacks or has twice, and the largest difference, relative to the largest value of an image."""
    names, others = whole.names(), killed.names()
    killed.verify()
    largest = 0.0
    for name in set(names) & set(others):
        ours, theirs = killed[killed.find(name)], whole[whole.find(name)]
        for stage in whole.stages:
            difference = (ours[stage] - theirs[stage]).abs().max() / theirs[stage].abs().max()
            largest = max(largest, float(difference))
    return {
        "rows": len(others),
        "lost": len(set(names) - set(others)),
        "double": len(others) - len(set(others)),
        "foreign": len(set(others) - set(names)),
        "largest_difference": largest,
    }


class Photographs(Dataset):
    """Files as normalised tensors (3, H, W): what a plain script reads."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        return (pixels / 255 - 0.5) / 0.5


def rates(paths: Sequence[Path], place: Path, repeats: int) -> list[dict[str, Any]]:
    """Images a second of each way, in turns: the median, and all passes."""
    torch.manual_seed(0)
    extractor = FeatureExtractor(ARCH, STAGES)
    model = timm.create_model(ARCH, features_only=True, out_indices=STAGES).eval()
    is_equal = len({Image.open(path).size for path in paths}) == 1

    def store() -> None:
        with tempfile.TemporaryDirectory(dir=place.parent) as out:
            with StoreWriter(out, settings_of(extractor, None, "mean", "fp32")) as writer:
                images = [FileImage(str(path), str(path)) for path in paths]
                done = write_features(extractor, images, writer, "mean", BATCH, WORKERS)
            assert done.written == len(paths)

    def one_by_one() -> None:
        for path in paths:
            [mean(level) for level in extractor(path)]

    def by_timm(batch_size: int) -> None:
        with torch.no_grad():
            for batch in DataLoader(Photographs(paths), batch_size, num_workers=WORKERS):
                [mean(level) for level in model(batch)]

    ways: dict[str, Callable[[], None]] = {
        "ziggurat features, into a store": store,
        "FeatureExtractor, one image at a time": one_by_one,
        "timm features_only, batches of 1": lambda: by_timm(1),
    }
    if is_equal:  # a plain loader cannot join images of several sizes
        ways[f"timm features_only, batches of {BATCH}"] = lambda: by_timm(BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, values in seconds.items():
        passes = [round(len(paths) / value, 2) for value in values]
        rows.append({"way": name, "images_per_second": statistics.median(passes), "passes": passes})
        print(f"{name:40}{rows[-1]['images_per_second']:10.1f} images/s  {passes}", flush=True)
    return rows


if __name__ == "__main__":
    run_tool(main)
