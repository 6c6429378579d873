"""The images of an evaluation that a segmenter does worst and best."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from mmseg.registry import HOOKS
from PIL import Image

from segmentation.data import IGNORE
from segmentation.metrics import FullIoUMetric
from ziggurat.engine.draw import make_palette, percent, tinted
from ziggurat.engine.extremes import ExtremesHook, Judged
from ziggurat.engine.reading import reading_in
from ziggurat.engine.sheet import Tile
from ziggurat.engine.triptych import COLUMNS, SIZE, triptych, with_legends

WORST = 3  # classes that a caption names
OPACITY = 0.6


@HOOKS.register_module()
class MapImagesHook(ExtremesHook):
    """Shows the images with the worst and the best predictions: image, ground truth and prediction side by side.

    The quality of an image is the mean IoU of the classes that its ground truth or its prediction has, in 0..1.
    Unlabelled pixels do not count. An image without labelled pixels is not judged.
    """

    titles = {"worst": "Lowest mIoU of an image, worst first", "best": "Highest mIoU of an image, best first"}
    size, columns = SIZE, COLUMNS
    reported = 12

    def __init__(self, count: int = 4, **kwargs: Any):
        super().__init__(count, **kwargs)

    def judge(
        self, loop: Any, outputs: Sequence[Any], indices: Sequence[int]
    ) -> list[tuple[float, dict[str, Any]] | None]:
        if any("pred_sem_seg" not in output or "gt_sem_seg" not in output for output in outputs):
            return []
        num_classes = len(loop.dataloader.dataset.metainfo["classes"])
        ignored = next((one.ignore_index for one in loop.evaluator.metrics if hasattr(one, "ignore_index")), IGNORE)
        return [judged(output, num_classes, ignored) for output in outputs]

    def tile(self, dataset: Any, image: Judged) -> Tile:
        classes, facts = dataset.metainfo["classes"], image.facts
        palette = dataset.metainfo.get("palette") or make_palette(len(classes))
        drawings = [partial(draw_map, labels=facts[name], palette=palette) for name in ("truth", "found")]
        order = sorted(facts["ious"], key=facts["ious"].get)[:WORST]
        worst = ", ".join(f"{classes[i]} {percent(facts['ious'][i])}" for i in order)
        lines = [f"mIoU {percent(image.quality)}", f"lowest: {worst}"]
        tile = triptych(facts["path"], drawings, lines, image.quality >= 0.5, reading_in(dataset))
        present = ([i for i in np.unique(facts[name]).tolist() if i < len(classes)] for name in ("truth", "found"))
        return with_legends(tile, *([(str(classes[i]), tuple(palette[i])) for i in labels] for labels in present))

    def describe(self, dataset: Any, image: Judged) -> dict[str, Any]:
        classes = dataset.metainfo["classes"]
        ious = {str(classes[i]): iou for i, iou in image.facts["ious"].items()}
        return {"image": image.facts["path"], "ious": ious}

    def marks(self, dataset: Any, image: Judged) -> dict[str, list[str]]:
        return {"class": [str(dataset.metainfo["classes"][i]) for i in sorted(image.facts["ious"])]}


def judged(output: Any, num_classes: int, ignored: int) -> tuple[float, dict[str, Any]] | None:
    """mIoU and facts of an image, mmseg's SegDataSample; None if none of its pixels has a label."""
    truth, found = (getattr(output, name).data.squeeze().cpu() for name in ("gt_sem_seg", "pred_sem_seg"))
    pairs, pixels = FullIoUMetric.intersect_and_union(found, truth, num_classes, ignored)
    if not len(pairs):
        return None
    counts = np.zeros(num_classes**2, np.int64)
    counts[pairs] = pixels
    counts = counts.reshape(num_classes, num_classes)
    both, either = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    ious = {int(i): float(both[i] / either[i]) for i in np.flatnonzero(either)}
    small = np.uint8 if max(num_classes, ignored) < 256 else np.int32
    maps = dict(truth=truth.numpy().astype(small), found=found.numpy().astype(small))
    return sum(ious.values()) / len(ious), dict(ious=ious, path=output.img_path, **maps)


def draw_map(image: Image.Image, labels: np.ndarray, palette: Sequence[Any]) -> Image.Image:
    """The image tinted with the colours of the classes in (H, W) ``labels``, which are scaled to it."""
    scaled = np.asarray(Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST))
    present = [i for i in np.unique(scaled).tolist() if i < len(palette)]
    return tinted(image, ((scaled == i, palette[i]) for i in present), OPACITY)
