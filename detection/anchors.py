"""``fit_anchors``: scales and aspect ratios of anchors that fit the boxes of the training set.

The recall of anchors is the share of boxes that have an anchor, at its place on the maps, with the IoU from which the
assigner takes it for an object.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.registry import TASK_UTILS

from backbones.errors import UnreadableImage, UserError, shown
from ziggurat.engine.console import say_note
from ziggurat.engine.parts import kind_of
from ziggurat.engine.seeding import seed_all

KIND = "AnchorGenerator"
HEADS = ("rpn_head", "bbox_head")
IMAGES, BOXES = 500, 3000  # at most, that are looked at
SHIFTS = np.linspace(-3, 1, 17) * np.log(2)  # of all scales, at the search's start
TRIES = 200
OCTAVES = ("octave_base_scale", "scales_per_octave")


class Truth(NamedTuple):
    """Boxes as the network sees them: after the training pipeline.

    Attributes:
        boxes: (N, 4), x1, y1, x2, y2 in pixels.
        sizes: (N, 2), width and height of each box's image, padded.
    """

    boxes: np.ndarray
    sizes: np.ndarray


class Levels(NamedTuple):
    """The places of anchors on the maps: ``strides`` and ``centres``, each (L, 2) of x and y, and ``bases``, (L,)."""

    strides: np.ndarray
    centres: np.ndarray
    bases: np.ndarray


def check_fit(cfg: Any) -> None:
    """Raises UserError for a value of ``fit_anchors`` that is not allowed, and for a model without such anchors."""
    given = cfg.get("fit_anchors")
    if given not in (None, True, False) or (isinstance(given, int | float) and not isinstance(given, bool)):
        raise UserError(f"fit_anchors={shown(given)}; allowed: True, False")
    if given and not list(fitted_heads(cfg.model)):
        model = detector(cfg.model)
        head = next((model[key] for key in (*HEADS, "panoptic_head") if model.get(key)), model)
        raise UserError(
            f"fit_anchors: {head.get('type')} has no {KIND} with an assigner's pos_iou_thr; allowed: the RPN of an "
            "R-CNN, RetinaNet, or no fit_anchors"
        )


def detector(model: Any) -> Any:
    return model.get("detector") or model


def fitted_heads(model: Any) -> Iterator[tuple[str, Any, float]]:
    """Name, config and IoU threshold of each head whose anchors can be fitted."""
    model = detector(model)
    for name in HEADS:
        head, rules = model.get(name) or {}, model.get("train_cfg") or {}
        rules = (rules.get("rpn") or {}) if name == "rpn_head" else rules
        threshold = (rules.get("assigner") or {}).get("pos_iou_thr") if isinstance(rules, Mapping) else None
        generator = head.get("anchor_generator") if isinstance(head, Mapping) else None
        if generator and kind_of(generator) == KIND and isinstance(threshold, int | float):
            yield name, head, float(threshold)


def fit_anchors(cfg: Any, dataset: Any) -> None:
    """Writes scales and ratios that fit better into the heads' configs, in place, and says the recall before and after.

    The number of anchors at a place stays, so that the head's weights still fit.

    Raises:
        UserError: the training images have no boxes.
    """
    divisor = (cfg.model.get("data_preprocessor") or {}).get("pad_size_divisor", 1)
    truth = boxes_of(dataset, divisor)
    for name, head, threshold in fitted_heads(cfg.model):
        old = head["anchor_generator"]
        made = TASK_UTILS.build(dict(old))
        levels = levels_of(made)
        scales, ratios = made.scales.numpy().astype(float), made.ratios.numpy().astype(float)
        before = recall(levels, scales, ratios, truth, threshold)
        new_scales, new_ratios = searched(levels, scales, ratios, truth, threshold)
        after = recall(levels, new_scales, new_ratios, truth, threshold)
        what = f"fit_anchors: {name} recalls {before:.3f} of {len(truth.boxes)} boxes at IoU {threshold:g}"
        if after <= before:
            say_note(f"{what}, and no fit was better; its anchors stay")
            continue
        generator = {key: value for key, value in old.items() if key not in OCTAVES}
        head["anchor_generator"] = dict(generator, scales=new_scales.tolist(), ratios=new_ratios.tolist())
        say_note(f"{what}, fitted {after:.3f}; scales {listed(new_scales)}, ratios {listed(new_ratios)}")


def listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in values)


def take_anchors(cfg: Any, earlier: Mapping[str, Any], source: str) -> None:
    """Gives a config the anchors that the run of a checkpoint has fitted, in place. A note says so.

    Args:
        cfg: the completed config.
        earlier: the checkpoint's config.
        source: its file's name in the note.
    """
    if not earlier.get("fit_anchors"):
        return
    theirs = detector(earlier.get("model") or {})
    for name, head, _ in fitted_heads(cfg.model):
        generator = (theirs.get(name) or {}).get("anchor_generator")
        if isinstance(generator, Mapping) and dict(head["anchor_generator"]) != dict(generator):
            head["anchor_generator"] = dict(generator)
            say_note(f"{name} has the anchors that the run of {source} has fitted")


def levels_of(made: Any) -> Levels:
    """The places of the anchors that mmdet's generator makes."""
    corners = np.stack([anchors[0].numpy() for anchors in made.base_anchors])
    return Levels(
        np.array(made.strides, float), (corners[:, :2] + corners[:, 2:]) / 2, np.array(made.base_sizes, float)
    )


def overlaps(levels: Levels, scales: np.ndarray, ratios: np.ndarray, truth: Truth) -> np.ndarray:
    """(N,): the largest IoU of each box with any anchor. On a map, that of the nearest place is the largest."""
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    middles = (truth.boxes[:, 2:] + truth.boxes[:, :2]) / 2
    best = np.zeros(len(sides))
    shapes = np.stack([1 / np.sqrt(ratios), np.sqrt(ratios)], axis=1)
    for stride, centre, base in zip(*levels, strict=True):
        cells = np.ceil(truth.sizes / stride) - 1
        places = np.clip(np.round((middles - centre) / stride), 0, cells) * stride + centre
        apart = np.abs(places - middles)[:, None]
        anchors = (base * scales[:, None, None] * shapes).reshape(1, -1, 2)
        shared = np.minimum((anchors + sides[:, None]) / 2 - apart, np.minimum(anchors, sides[:, None])).clip(min=0)
        common = shared.prod(axis=2)
        found = common / (anchors.prod(axis=2) + sides.prod(axis=1)[:, None] - common)
        best = np.maximum(best, found.max(axis=1))
    return best


def recall(levels: Levels, scales: np.ndarray, ratios: np.ndarray, truth: Truth, threshold: float) -> float:
    return float((overlaps(levels, scales, ratios, truth) >= threshold).mean())


def searched(
    levels: Levels, scales: np.ndarray, ratios: np.ndarray, truth: Truth, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """As many scales and ratios, with the largest recall and mean IoU that a search in log space has met."""
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    shares = (np.arange(len(ratios)) + 0.5) / len(ratios)
    typical = np.quantile(np.log(sides[:, 1] / sides[:, 0]), shares)
    count, rng = len(scales), np.random.default_rng(0)

    def value(point: np.ndarray) -> float:
        found = overlaps(levels, np.exp(point[:count]), np.exp(point[count:]), truth)
        return float((found >= threshold).mean() + found.mean())

    starts = [np.concatenate([np.log(scales) + shift, kind]) for shift in SHIFTS for kind in (np.log(ratios), typical)]
    best = max([np.concatenate([np.log(scales), np.log(ratios)]), *starts], key=value)
    most = value(best)
    for step in range(TRIES):
        tried = best + rng.normal(0, 0.3 * (1 - step / TRIES) + 0.02, len(best))
        if (reached := value(tried)) > most:
            best, most = tried, reached
    found = np.exp(best)
    return np.sort(found[:count]).round(3), np.sort(found[count:]).round(3)


def boxes_of(dataset: Any, divisor: int) -> Truth:
    """The boxes of some training images, all if there are few, after the pipeline. No random numbers are used up."""
    boxes, sizes = [], []
    with own_random_numbers():
        count = min(len(dataset), IMAGES)
        for index in range(count):
            try:
                item = dataset[index * len(dataset) // count]
            except UnreadableImage:
                continue  # the training leaves the image out
            found = item["data_samples"].gt_instances.bboxes
            found = getattr(found, "tensor", found).numpy().reshape(-1, 4)
            height, width = (-(-side // divisor) * divisor for side in item["inputs"].shape[-2:])
            boxes.append(found.astype(float))
            sizes.append(np.tile([[width, height]], (len(found), 1)).astype(float))
    truth = Truth(np.concatenate(boxes), np.concatenate(sizes)) if boxes else Truth(np.zeros((0, 4)), np.zeros((0, 2)))
    kept = np.flatnonzero((truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1))
    if not len(kept):
        raise UserError("fit_anchors: the training images have no boxes to fit anchors to")
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), BOXES)).astype(int)]
    return Truth(truth.boxes[kept], truth.sizes[kept])


@contextlib.contextmanager
def own_random_numbers() -> Iterator[None]:
    """Seeds all random numbers inside the block, and sets them back after it."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            seed_all(0)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
