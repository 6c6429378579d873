"""``fit_anchors``: anchors that fit the boxes of the training set, for the generators of ``FITS``."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from backbones.errors import UserError, shown
from detection.anchor_fits import FITS, built
from detection.anchor_recall import boxes_of, levels_of, recall
from ziggurat.engine.console import say_note
from ziggurat.engine.mistakes import config_mistakes
from ziggurat.engine.parts import kind_of

HEADS = ("rpn_head", "bbox_head")


def check_fit(cfg: Any) -> None:
    """Raises UserError for a value of ``fit_anchors`` that is not allowed, and for a model without such anchors."""
    given = cfg.get("fit_anchors")
    if given not in (None, True, False) or (isinstance(given, int | float) and not isinstance(given, bool)):
        raise UserError(f"fit_anchors={shown(given)}; allowed: True, False")
    if given and not list(fitted_heads(cfg.model)):
        model = detector(cfg.model)
        head = next((model[key] for key in (*HEADS, "panoptic_head") if model.get(key)), model)
        kind = kind_of_generator(head)
        has = "an assigner without pos_iou_thr" if kind in FITS else f"anchors of {kind}" if kind else "no anchors"
        raise UserError(
            f"fit_anchors: {head.get('type')} has {has}; allowed: {', '.join(FITS)}, with an assigner's pos_iou_thr, "
            "as in the RPN of an R-CNN, RetinaNet, SSD and YOLOv3, or no fit_anchors"
        )


def detector(model: Any) -> Any:
    return model.get("detector") or model


def kind_of_generator(head: Any) -> str | None:
    """The type of a head's ``anchor_generator``; None if the head has none."""
    generator = head.get("anchor_generator") if isinstance(head, Mapping) else None
    return kind_of(generator) if isinstance(generator, Mapping) and generator.get("type") else None


def fitted_heads(model: Any) -> Iterator[tuple[str, Any, float]]:
    """Name, config and IoU threshold of each head whose anchors can be fitted."""
    model = detector(model)
    for name in HEADS:
        head, rules = model.get(name) or {}, model.get("train_cfg") or {}
        rules = (rules.get("rpn") or {}) if name == "rpn_head" else rules
        threshold = (rules.get("assigner") or {}).get("pos_iou_thr") if isinstance(rules, Mapping) else None
        if kind_of_generator(head) in FITS and isinstance(threshold, int | float):
            yield name, head, float(threshold)


def fit_anchors(cfg: Any, dataset: Any) -> None:
    """Writes anchors that fit better into the heads' configs, in place, and says the recall before and after.

    The number of anchors at a place stays, so that the head's weights still fit.

    Raises:
        UserError: the training images have no boxes, or a value of a generator is not allowed.
    """
    divisor = (cfg.model.get("data_preprocessor") or {}).get("pad_size_divisor", 1)
    truth = boxes_of(dataset, divisor)
    for name, head, threshold in fitted_heads(cfg.model):
        with config_mistakes(cfg):
            generator, made = built(head["anchor_generator"])
        before = recall(levels_of(made), truth, threshold)
        settings = FITS[kind_of(generator)](generator, truth, threshold)
        generator, made = built(generator, **settings)
        after = recall(levels_of(made), truth, threshold)
        what = f"fit_anchors: {name} recalls {before:.3f} of {len(truth.boxes)} boxes at IoU {threshold:g}"
        if after <= before:
            say_note(f"{what}, and no fit was better; its anchors stay")
            continue
        head["anchor_generator"] = generator
        words = ", ".join(f"{key} {listed(values)}" for key, values in settings.items())
        say_note(f"{what}, fitted {after:.3f}; {words}")


def listed(values: list[Any]) -> str:
    """Numbers, or widths and heights by levels, e.g. ``10x13, 16x30``."""
    if isinstance(values[0], list):
        values = [f"{width:g}x{height:g}" for width, height in np.concatenate(values)]
    return ", ".join(value if isinstance(value, str) else f"{value:g}" for value in values)


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
