"""Sliding windows: mmseg's ``mode="slide"`` for any config."""

from typing import Any

from ziggurat.engine.images import kind_of
from ziggurat.engine.splits import datasets_of
from ziggurat.engine.tiles import Tiles

META_KEYS = ("img_path", "seg_map_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


def use_windows(cfg: Any, tiles: Tiles) -> None:
    """Changes a config in place to test in windows of the resized image. Their scores are averaged where they overlap.

    ``pad_shape`` is left out of what the pipeline passes on: mmseg's Mask2Former takes it for the size of a window.
    """
    model = cfg.model
    while "module" in model:  # in test-time augmentation
        model = model.module
    side, stride = (tiles.size, tiles.size), (tiles.stride, tiles.stride)
    model.test_cfg = {**(model.get("test_cfg") or {}), "mode": "slide", "crop_size": side, "stride": stride}
    for dataset in datasets_of(cfg, "test"):
        for step in packing_steps(dataset.get("pipeline")):
            step.meta_keys = [key for key in step.get("meta_keys", META_KEYS) if key != "pad_shape"]


def packing_steps(steps: Any) -> list[Any]:
    """The steps ``PackSegInputs`` of a pipeline, also those of its views in TestTimeAug."""
    if isinstance(steps, list | tuple):
        return [found for step in steps for found in packing_steps(step)]
    if not isinstance(steps, dict):
        return []
    return [steps] if kind_of(steps) == "PackSegInputs" else packing_steps(steps.get("transforms"))
