"""Times the loading of images with masks: masks as run-length codes, beside mmdetection's bitmaps.

python tools/bench/benchmark_masks.py [CONFIG ...] [--images 24] [--objects 7] [--repeats 5]
    [--out docs/benchmarks/masks_cpu.json]

The images are photographs of scikit-image at COCO's common size, with polygons of 40 corners. Both ways run in turn,
with the same random numbers, on one core. The figures are CPU time: that of the pipeline, and that of sending a sample
from a worker to the training. Then the memory is compared that the targets of a mask head take.
"""

import json
import pickle
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.datasets.transforms.loading import LoadAnnotations as PlainLoadAnnotations
from mmengine.dataset import Compose
from PIL import Image
from skimage import data as photographs

from backbones.files import write_json
from detection.masks import EncodedMasks
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.console import quiet_imports
from ziggurat.engine.machine import machine
from ziggurat.engine.memory import peak_of_tensors
from ziggurat.engine.tasks import task_for
from ziggurat.engine.timing import cpu_seconds
from ziggurat.engine.tool_options import count

CONFIGS = [
    "detection/configs/van/mask_rcnn_van_b2_fpn_1x_coco.py",
    "detection/configs/van/mask_rcnn_van_b2_fpn_3x_coco.py",
    "detection/configs/van/mask2former_van_b2_lsj_50e_coco.py",
]
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
WIDTH, HEIGHT = 640, 480
BOXES = 128  # positive regions of a mask head, at most
CPU = torch.device("cpu")


def main() -> None:
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS, metavar="CONFIG", help="configs of detectors with masks")
    parser.add_argument("--images", type=count, default=24, help="number of images (default: 24)")
    parser.add_argument("--objects", type=count, default=7, help="in an image (default: 7, as in COCO)")
    parser.add_argument("--repeats", type=count, default=5, help="passes over the images (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    args = parser.parse_args()
    if args.out:
        output_folder(args.out.parent)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        write_coco(Path(folder), args.images, args.objects)
        rows = [compared(config, folder, args.repeats) for config in args.configs]
    for row in rows:
        print(row)
    if args.out:
        about = {"width": WIDTH, "height": HEIGHT, "objects": args.objects}
        write_json(args.out, {"machine": machine(CPU, "onedl-mmdetection"), "masks": about, "rows": rows})
        print(f"figures: {args.out}")


def compared(config: str, folder: str, repeats: int) -> dict[str, Any]:
    """The ``config``, and for ``bitmaps`` and ``codes`` the figures of a sample.

    These are ``pipeline_ms``, ``sending_ms``, ``sample_kib`` and ``targets_mib``.
    """
    cfg = load_config(config, {"data_root": folder})
    with quiet_imports():  # pycocotools prints
        dataset = task_for(cfg).build_dataset(cfg, "train")
        dataset.full_init()
    ours = dataset.pipeline.transforms
    loader = next(i for i, step in enumerate(ours) if isinstance(step, PlainLoadAnnotations))
    plain = [*ours[:loader], PlainLoadAnnotations(with_bbox=True, with_mask=True), *ours[loader + 1 :]]
    pipelines = {"bitmaps": Compose(plain), "codes": Compose(ours)}
    times: dict[tuple[str, str], list[float]] = {}
    samples: dict[str, list[Any]] = {}
    for turn in range(repeats + 1):  # the first does not count
        for name, pipeline in pipelines.items():
            np.random.seed(turn)
            made: list[Any] = []
            samples[name] = made
            for what, call in (
                ("pipeline", lambda made=made, run=pipeline: made.extend(every(run, dataset))),
                ("sending", lambda made=made: [pickle.loads(pickle.dumps(s["data_samples"])) for s in made]),
            ):
                times.setdefault((name, what), []).append(cpu_seconds(call, CPU))
    check_equal(*samples.values())
    row: dict[str, Any] = {"config": config}
    for name, made in samples.items():
        found = {what: 1e3 * statistics.median(times[name, what][1:]) / len(made) for what in ("pipeline", "sending")}
        row[name] = {
            "pipeline_ms": round(found["pipeline"], 2),
            "sending_ms": round(found["sending"], 2),
            "sample_kib": round(statistics.mean(len(pickle.dumps(s["data_samples"])) for s in made) / 1024, 1),
            "targets_mib": round(peak_of_tensors(targets_of(made[0]), CPU) / 2**20, 1),
        }
    return row


def every(pipeline: Callable[[Any], Any], dataset: Any) -> list[Any]:
    made = [pipeline(dataset.get_data_info(i)) for i in range(len(dataset))]
    return [sample for sample in made if sample is not None]


def check_equal(bitmaps: list[Any], codes: list[Any]) -> None:
    """Both ways give the same masks, bit for bit, and only one of them as codes."""
    for one, other in zip(bitmaps, codes, strict=True):
        masks = [sample["data_samples"].gt_instances.masks for sample in (one, other)]
        assert isinstance(masks[1], EncodedMasks) and not isinstance(masks[0], EncodedMasks)
        assert np.array_equal(masks[0].masks, masks[1].masks)


def targets_of(sample: Any) -> Callable[[], Any]:
    """A call that makes the 28x28 targets of ``BOXES`` regions."""
    truth = sample["data_samples"].gt_instances
    inds = torch.arange(BOXES) % len(truth.masks)
    boxes = truth.bboxes.tensor if hasattr(truth.bboxes, "tensor") else truth.bboxes
    return lambda: truth.masks.crop_and_resize(boxes[inds], (28, 28), inds)


def write_coco(root: Path, images: int, objects: int) -> None:
    """Images with objects of random sizes, in COCO's layout; the same for training and validation."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir()
    pixels = [Image.fromarray(getattr(photographs, name)()).resize((WIDTH, HEIGHT)) for name in PHOTOGRAPHS]
    content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [dict(id=1, name="thing")]}
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        for i in range(images):
            pixels[i % len(pixels)].save(root / split / f"{i}.jpg", quality=95)
    for i in range(images):
        content["images"].append(dict(id=i, file_name=f"{i}.jpg", height=HEIGHT, width=WIDTH))
        for _ in range(objects):
            sides = np.exp(rng.uniform(np.log(16), np.log([WIDTH * 0.8, HEIGHT * 0.8])))
            corner = rng.uniform(0, [WIDTH, HEIGHT] - sides)
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            radii = 1 - 0.2 * rng.random(40)
            outline = corner + sides / 2 * (1 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1))
            content["annotations"].append(
                dict(
                    id=len(content["annotations"]) + 1,
                    image_id=i,
                    category_id=1,
                    bbox=[*corner.tolist(), *sides.tolist()],
                    area=float(sides.prod() * 0.6),
                    iscrowd=0,
                    segmentation=[outline.ravel().round(2).tolist()],
                )
            )
    for split in ("train2017", "val2017"):
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    run_tool(main)
