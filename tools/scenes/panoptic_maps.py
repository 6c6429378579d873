"""The panoptic files of the demo data, in COCO's layout; tools/make_demo_data.py writes them.

Digits are things. The photograph behind them is stuff: brick, grass or gravel, and all other photographs together.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from backbones.files import replaced_file

SPLITS = ("train", "val")
SURFACES = ("brick", "grass", "gravel")  # photographs that show one kind of stuff everywhere
OTHER = "photograph"
STUFF = (*SURFACES, OTHER)


def has_panoptic(root: Path) -> bool:
    """Whether the demo data in ``root`` have their panoptic files. The json of a split is written after its maps."""
    return all(json_file(root, split).is_file() for split in SPLITS)


def json_file(root: Path, split: str) -> Path:
    return root / f"coco/annotations/panoptic_{split}2017.json"


def write_panoptic(root: Path, split: str, photo_of: Callable[[int], str]) -> None:
    """Writes a split's maps and then their json, from its instances_{split}2017.json.

    A map is an RGB image; the id of a segment is R + 256 G + 65536 B. An image's digits have the ids 1, 2, ..., and
    the photograph behind them has the id that follows.

    Args:
        root: the folder of the demo data.
        split: "train" or "val".
        photo_of: the name of the photograph in the scene with an index (0, 1, ...).
    """
    target = json_file(root, split)
    instances = json.loads(target.with_name(f"instances_{split}2017.json").read_text())
    digits: dict[int, list[dict]] = {image["id"]: [] for image in instances["images"]}
    for one in instances["annotations"]:
        digits[one["image_id"]].append(one)
    names = [category["name"] for category in instances["categories"]]
    categories = [dict(category, isthing=1) for category in instances["categories"]]
    categories += [
        dict(id=len(names) + 1 + i, name=name, supercategory="background", isthing=0) for i, name in enumerate(STUFF)
    ]

    beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".panoptic_{split}."))
    try:
        annotations = []
        for index, image in enumerate(instances["images"]):
            photo = photo_of(index)
            stuff = len(names) + 1 + STUFF.index(photo if photo in SURFACES else OTHER)
            ids, segments = segments_of(digits[image["id"]], (image["height"], image["width"]), stuff)
            name = str(Path(image["file_name"]).with_suffix(".png"))
            Image.fromarray(np.stack([ids, ids * 0, ids * 0], axis=-1)).save(beside / name)
            annotations.append(dict(image_id=image["id"], file_name=name, segments_info=segments))
        maps = target.with_suffix("")
        shutil.rmtree(maps, ignore_errors=True)  # of a call that was interrupted before it wrote the json
        beside.chmod(target.parent.stat().st_mode)
        beside.rename(maps)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    content = dict(instances, annotations=annotations, categories=categories)
    with replaced_file(target) as file:
        file.write_text(json.dumps(content))


def segments_of(digits: list[dict], shape: tuple[int, int], stuff: int) -> tuple[np.ndarray, list[dict]]:
    """The ids of an image's segments, uint8 (H, W), and its ``segments_info``. ``stuff`` is the category around."""
    ids = np.zeros(shape, np.uint8)
    segments = []
    for number, one in enumerate(digits, 1):
        mask = coco_mask.decode(coco_mask.frPyObjects(one["segmentation"], *shape))
        ids[mask > 0] = number
        kept = {key: one[key] for key in ("category_id", "area", "bbox", "iscrowd")}
        segments.append(dict(id=number, **kept))
    around = ids == 0
    ids[around] = len(digits) + 1
    rows, columns = np.flatnonzero(around.any(1)), np.flatnonzero(around.any(0))
    box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    segments.append(dict(id=len(digits) + 1, category_id=stuff, area=int(around.sum()), bbox=box, iscrowd=0))
    return ids, segments
