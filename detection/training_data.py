"""Options of the training data: pasted objects, a limit of objects, images without objects.

- ``copy_paste=True`` pastes objects of another image into every image (Ghiasi et al., 2021, arXiv 2012.07177).
- ``max_objects=100`` draws so many objects of an image that has more.
- ``background="keep"`` trains on images without objects, too. ``"drop"`` leaves them out.

False takes a step of an earlier option out again. None leaves the config as it is.
"""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import CopyPaste, FilterAnnotations, Pad
from mmdet.registry import TRANSFORMS
from mmengine.config import ConfigDict

from backbones.errors import UserError, shown
from ziggurat.engine.images import kind_of
from ziggurat.engine.repeated import check_number, name_of, single, tell
from ziggurat.engine.splits import datasets_of


@TRANSFORMS.register_module()
class PasteObjects(CopyPaste):
    """mmdet's CopyPaste for images of any two sizes: both are padded at the right and bottom to the larger sides.

    Images keep their dtype. An object that no pixel is left of is taken out. For MultiImageMixDataset.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        kind, both = results["img"].dtype, (results, results["mix_results"][0])
        height, width = (max(one["img"].shape[axis] for one in both) for axis in (0, 1))
        for one in both:
            Pad(size=(width, height)).transform(one)
        results = super().transform(results)
        results["img"] = results["img"].astype(kind)
        return FilterAnnotations(min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True, keep_empty=False).transform(results)


@TRANSFORMS.register_module()
class DrawObjects(BaseTransform):
    """Draws ``most`` objects of an image that has more, anew each time. It goes before the loading of masks."""

    def __init__(self, most: int):
        self.most = most

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        found = results.get("instances") or []
        if len(found) > self.most:
            drawn = np.sort(np.random.permutation(len(found))[: self.most])
            results["instances"] = [found[i] for i in drawn]
        return results


def use_data_options(cfg: Any) -> None:
    """Carries out the options of the training data, in place.

    Raises:
        UserError: a value is not allowed, or the training set does not fit an option.
    """
    loader = cfg.get("train_dataloader")
    check_number("max_objects", cfg.get("max_objects"), int, "integers from 1 up, and False")
    if not isinstance(cfg.get("copy_paste", None), bool | None):
        raise UserError(f"copy_paste={shown(cfg.copy_paste)}; allowed: True, False")
    if cfg.get("background") not in (None, "keep", "drop"):
        raise UserError(f"background={shown(cfg.background)}; allowed: keep, drop")
    if loader is None:
        return
    if cfg.get("background") is not None:
        for dataset in datasets_of(cfg, "train"):
            dataset.filter_cfg = dict(dataset.get("filter_cfg") or {}, filter_empty_gt=cfg.background == "drop")
    if cfg.get("max_objects") is not None:
        switches = [hook for hook in cfg.get("custom_hooks") or [] if kind_of(hook) == "PipelineSwitchHook"]
        limit_objects(single(loader, "max_objects"), "pipeline", cfg.max_objects)
        for hook in switches:
            limit_objects(hook, "switch_pipeline", cfg.max_objects)
    if cfg.get("copy_paste") is not None:
        paste_objects(cfg, loader, cfg.copy_paste)


def limit_objects(owner: Any, key: str, most: int | bool) -> None:
    steps = [step for step in owner.get(key) or [] if kind_of(step) != "DrawObjects"]
    places = [i for i, step in enumerate(steps) if kind_of(step) == "LoadAnnotations"]
    if most and not places:
        raise UserError("max_objects is for boxes and instances; the training pipeline has no LoadAnnotations")
    if most:
        steps.insert(places[0], ConfigDict(type="DrawObjects", most=most))
    owner[key] = steps


def paste_objects(cfg: Any, loader: Any, wanted: bool) -> None:
    dataset = single(loader, "copy_paste")
    outer = loader.dataset
    if kind_of(outer) == "MultiImageMixDataset" and kind_of(outer.pipeline[0]) == "PasteObjects":
        if not wanted:
            dataset.pipeline, loader.dataset = [*dataset.pipeline, outer.pipeline[-1]], outer.dataset
    elif wanted:
        steps = list(dataset.get("pipeline") or [])
        check_pasting(cfg, steps)
        dataset.pipeline = steps[:-1]
        mixed = [dict(type="PasteObjects"), steps[-1]]
        loader.dataset = ConfigDict(type="MultiImageMixDataset", dataset=outer, pipeline=mixed)


def check_pasting(cfg: Any, steps: list[Any]) -> None:
    """Raises UserError if objects cannot be pasted at the end of a pipeline."""
    loading = [step for step in steps if kind_of(step).endswith("Annotations") and kind_of(step).startswith("Load")]
    if any(kind_of(step) == "LoadPanopticAnnotations" for step in loading):
        raise UserError("copy_paste is for instances; a pasted object would cut holes into the segments of its source")
    if not any(step.get("with_mask") and step.get("poly2mask", True) for step in loading):
        raise UserError("copy_paste needs masks; take a config whose LoadAnnotations has with_mask=True")
    if kind_of(steps[-1]) != "PackDetInputs":
        raise UserError(f"copy_paste goes before PackDetInputs, and the training pipeline ends in {kind_of(steps[-1])}")
    if any(kind_of(hook) == "PipelineSwitchHook" for hook in cfg.get("custom_hooks") or []):
        raise UserError("copy_paste and PipelineSwitchHook exclude each other, since both replace the last steps")


def tell_data_options(cfg: Any, loader: Any) -> None:
    """Says what is pasted, and how many images have more objects than ``max_objects``: a line each."""
    dataset = loader.dataset
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    if not cfg.get("max_objects") and not cfg.get("copy_paste"):
        return
    counts = [len(dataset.get_data_info(i)["instances"]) for i in range(len(dataset))]
    if cfg.get("copy_paste"):
        there = sum(count > 0 for count in counts)
        tell(
            f"copy_paste: each image gets objects of another; {there} of {len(counts)} images have objects, "
            f"{sum(counts)} in all"
        )
    above = [i for i, count in enumerate(counts) if cfg.get("max_objects") and count > cfg.max_objects]
    if above:
        most = max(above, key=counts.__getitem__)
        tell(
            f"max_objects={cfg.max_objects}: {len(above)} of {len(counts)} images have more; "
            f"{name_of(dataset, most)} has the most, {counts[most]}"
        )
