"""Index masks drawn from the objects of a COCO json: 0 is the background, and 1, 2, ... are the categories.

Smaller objects lie over larger ones. Crowds, and objects that have a box alone, are unlabelled, since nobody knows
which of their pixels are the object's.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.errors import UserError
from backbones.files import replaced_file
from segmentation.legend import IGNORE
from ziggurat.engine.own_data.content import Notes
from ziggurat.engine.own_data.mask_runs import run_lengths


def render(file: Path, folder: Path, split: str, notes: Notes) -> list[tuple[str, str]]:
    """Draws the masks of a COCO json in its one form.

    Args:
        file: the json.
        folder: the masks go into ``folder/split``, under the names of the images.
        split: the split.
        notes: are told what is unlabelled.

    Returns:
        (image below the data's root, path of its mask) for each image.

    Raises:
        UserError: no object has an outline or mask, or there are more than 254 categories.
    """
    content = json.loads(file.read_text())
    if len(content["categories"]) >= IGNORE:
        raise UserError(
            f"{file}: {len(content['categories'])} categories; allowed: up to {IGNORE - 1}, beside background"
        )
    if content["annotations"] and not any(one.get("segmentation") for one in content["annotations"]):
        raise UserError(f"{file}: all objects are boxes; allowed for segmentation: outlines or masks of objects")
    of_image: dict[int, list[dict[str, Any]]] = {}
    for one in content["annotations"]:
        of_image.setdefault(one["image_id"], []).append(one)
    pairs = []
    for image in content["images"]:
        mask = drawn(image, of_image.get(image["id"], []), notes)
        path = (folder / split / image["file_name"]).with_suffix(".png")
        if path.exists() and any(path == Path(other) for _, other in pairs):
            path = path.with_name(f"{Path(image['file_name']).name}.png")
        with replaced_file(path) as beside:
            Image.fromarray(mask).save(beside, "PNG")
        pairs.append((image["file_name"], str(path.resolve())))
    return pairs


def drawn(image: dict[str, Any], objects: list[dict[str, Any]], notes: Notes) -> np.ndarray:
    """The mask of an image, uint8 (height, width)."""
    from pycocotools import mask as coco_mask

    height, width = int(image["height"]), int(image["width"])
    mask = np.zeros((height, width), np.uint8)
    for one in sorted(objects, key=lambda one: (not one["iscrowd"], bool(one.get("segmentation")), -one["area"])):
        if not one.get("segmentation"):
            notes.add("objects that are boxes alone, whose pixels are unlabelled", one["source"])
            left, top, across, down = one["bbox"]
            rows = slice(max(int(top), 0), max(int(np.ceil(top + down)), 0))
            mask[rows, max(int(left), 0) : max(int(np.ceil(left + across)), 0)] = IGNORE
            continue
        pixels = coco_mask.decode(run_lengths(one["segmentation"], height, width, one["source"])).astype(bool)
        if one["iscrowd"]:
            notes.add("crowds, whose pixels are unlabelled", one["source"])
        mask[pixels] = IGNORE if one["iscrowd"] else one["category_id"]
    return mask
