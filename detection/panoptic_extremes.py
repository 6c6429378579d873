"""The worst and best images of a panoptic model: the quality of one image, and the segments drawn."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from backbones.images import opened
from backbones.reading import Reading
from detection.panoptic_result import segments_of
from ziggurat.engine.draw import percent, tint_segments
from ziggurat.engine.results import Segment
from ziggurat.engine.sheet import Tile
from ziggurat.engine.triptych import triptych, with_legends

TITLES = {"worst": "Lowest PQ of an image, worst first", "best": "Highest PQ of an image, best first"}
MATCH = 0.5  # IoU above which two segments are one
OPACITY = 0.6


def judged(output: Any, info: dict[str, Any], metainfo: dict[str, Any]) -> tuple[float, dict[str, Any]] | None:
    """Quality and facts of an image; None if its ground truth has no segments, or another size than the image.

    The quality is PQ of all segments of the image, in 0..1: the sum of the matches' IoU, over their number and half the
    number of other segments. Pixels of no segment and of crowds count for nothing.

    Args:
        output: mmdet's sample with ``pred_panoptic_seg``.
        info: of the image, from the data set: ``seg_map_path`` and ``segments_info``.
        metainfo: of the data set: ``classes`` and ``thing_classes``.
    """
    names = [str(name) for name in metainfo["classes"]]
    found_map, found = segments_of(output.pred_panoptic_seg.sem_seg[0].cpu().numpy(), names)
    truth_map, truth = truth_of(info, names, len(metainfo["thing_classes"]))
    if not truth or truth_map.shape != found_map.shape:
        return None
    shared = np.zeros((len(truth) + 1, len(found) + 1), np.int64)
    np.add.at(shared, (truth_map.ravel(), found_map.ravel()), 1)
    matched, hits = 0.0, 0
    for one in found:
        for two in truth:
            both = shared[two.number, one.number]
            iou = both / (one.area + two.area - both - shared[0, one.number])
            if one.label == two.label and iou > MATCH:
                matched, hits = matched + float(iou), hits + 1
    extra = sum(shared[0, one.number] <= MATCH * one.area for one in found) - hits
    lost = len(truth) - hits
    maps = dict(found=(found_map, found), truth=(truth_map, truth))
    return matched / (hits + (extra + lost) / 2), dict(segments=len(truth), hits=hits, extra=int(extra), maps=maps)


def truth_of(info: dict[str, Any], names: Sequence[str], things: int) -> tuple[np.ndarray, list[Segment]]:
    """The map of the ground truth with segments numbered from 1, and the segments; 0 for crowds and for no segment."""
    with opened(info["seg_map_path"], what="mask") as image:
        ids = np.asarray(image.convert("RGB")).astype(np.int64) @ [1, 256, 65536]
    numbered, segments = np.zeros(ids.shape, np.int32), []
    for one in info["segments_info"]:
        area, label = int((ids == one["id"]).sum()), one["category"]
        if area and (one["is_thing"] or label >= things):  # mmdet says of a crowd that it is no thing
            segments.append(Segment(len(segments) + 1, label, names[label], bool(one["is_thing"]), area))
            numbered[ids == one["id"]] = len(segments)
    return numbered, segments


def tile(path: str, quality: float, facts: dict[str, Any], palette: Sequence[Any], reading: Reading) -> Tile:
    """The image, read by a rule, with the segments of the ground truth and of the prediction."""
    drawings = [partial(draw, segments=facts["maps"][name], palette=palette) for name in ("truth", "found")]
    lines = [
        f"PQ {percent(quality)}: {facts['hits']} of {facts['segments']} matched",
        f"{facts['extra']} others predicted",
    ]
    made = triptych(path, drawings, lines, quality >= 0.5, reading)
    names = ({one.label: one.name for one in facts["maps"][name][1]} for name in ("truth", "found"))
    return with_legends(made, *([(name, tuple(palette[i])) for i, name in sorted(one.items())] for one in names))


def draw(image: Image.Image, segments: tuple[np.ndarray, Sequence[Segment]], palette: Sequence[Any]) -> Image.Image:
    """Segments tinted on an image, to whose size their map is scaled."""
    scaled = np.asarray(Image.fromarray(segments[0]).resize(image.size, Image.Resampling.NEAREST))
    classes = [(one.number, one.name, tuple(palette[one.label])) for one in segments[1]]
    return tint_segments(image, scaled, classes, OPACITY)
