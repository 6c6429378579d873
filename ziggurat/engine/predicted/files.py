"""The files of one prediction, of an image or of a video's frame."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backbones.files import replaced_file, with_null
from ziggurat.engine.predicted.book import MAP, stem_of
from ziggurat.engine.predicted.formats import JSON, PANOPTIC_MAP, PICTURES, maps_of_frames
from ziggurat.engine.predicted.on_disk import forms_of, paths_of, remove
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
    pictures = {"{}.png": picture} if PICTURES in formats and picture is not None else {}
    write_pictures(out, stem, pictures | maps_of(result))
    if JSON in formats:
        with replaced_file(out / f"{stem}.json") as beside:
            beside.write_text(json.dumps(with_null(content), allow_nan=False) + "\n", encoding="utf-8")


class FrameFiles:
    """The files of a video's frames. With the first frame those of earlier runs go.

    Args:
        out: the folder.
        stem: the name of the video's files.
        kind: the type of the results.
        formats: words of ``ziggurat.engine.predicted.formats.FORMATS``.
        begun: those that this run or an earlier one began to write.
    """

    def __init__(self, out: Path, stem: str, kind: type, formats: Sequence[str], begun: Iterable[str]):
        self.out, self.stem, self.kind, self.formats = out, stem, kind, formats
        self.earlier = [form for form in forms_of(begun)[True] if "*" in form]

    def write(self, index: int, result: Result) -> None:
        """Writes the files of the frame of an index, each whole or not at all."""
        for form in self.earlier:
            remove(self.out, paths_of(self.out, form, self.stem))
        self.earlier = []
        forms = maps_of_frames(isinstance(result, Panoptic), self.kind, self.formats)
        maps = {form: image for form, image in maps_of(result).items() if form in forms}
        write_pictures(self.out, stem_of(dict(file=self.stem, frame=index)), maps)


def maps_of(result: Result) -> dict[str, Image.Image]:
    """The map of classes, or of a panoptic model's segments, by the names of their files."""
    if isinstance(result, ClassMap):
        return {MAP: Image.fromarray(result.class_map)}
    if isinstance(result, Panoptic):
        ids = result.panoptic_map
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        return {PANOPTIC_MAP: Image.fromarray(colours)}
    return {}


def write_pictures(out: Path, stem: str, pictures: dict[str, Image.Image]) -> None:
    for form, image in pictures.items():
        with replaced_file(out / form.format(stem)) as beside:
            image.save(beside, "PNG")
