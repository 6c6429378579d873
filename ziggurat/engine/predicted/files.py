"""The files of one image's prediction."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.files import replaced_file, with_null
from ziggurat.engine.predicted.formats import JSON, PICTURES
from ziggurat.engine.results import ClassMap, Panoptic, Result


def write_files(
    out: Path, stem: str, result: Result, content: dict[str, Any], picture: Image.Image | None, formats: Sequence[str]
) -> None:
    """Writes the files of an image into a folder, each whole or not at all.

    The map of classes, or of a panoptic model's segments, is always written.

    Args:
        out: the folder.
        stem: the name of the files.
        result: the prediction.
        content: of the JSON file.
        picture: the prediction drawn on the image; None writes none.
        formats: words of ``ziggurat.engine.predicted.formats.FORMATS``.
    """
    pictures = {f"{stem}.png": picture} if PICTURES in formats and picture is not None else {}
    if isinstance(result, ClassMap):
        pictures[f"masks/{stem}.png"] = Image.fromarray(result.class_map)
    if isinstance(result, Panoptic):
        ids = result.panoptic_map
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        pictures[f"panoptic/{stem}.png"] = Image.fromarray(colours)
    for name, image in pictures.items():
        with replaced_file(out / name) as beside:
            image.save(beside, "PNG")
    if JSON in formats:
        with replaced_file(out / f"{stem}.json") as beside:
            beside.write_text(json.dumps(with_null(content), allow_nan=False) + "\n", encoding="utf-8")
