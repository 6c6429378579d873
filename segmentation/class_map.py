"""Scores that come part by part become the classes of an image of another size, without all scores in memory."""

from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.structures import PixelData
from torch import Tensor

AT_A_TIME = 1 << 21  # scores of the image that are computed at a time; they should fit into a processor's cache
LARGE = 1 << 28  # scores of an image, 1 GiB, from which mmseg's way of keeping all of them is left


class Taps(NamedTuple):
    """Bilinear interpolation along one side. Pixel k of the image is between the scores ``low[k]`` and ``high[k]``.

    Attributes:
        low, high: (n,) int, indices of scores. ``high`` grows with k.
        weights: (n,) float64, the weight of ``high``.
    """

    low: np.ndarray
    high: np.ndarray
    weights: np.ndarray


def taps_of(length: int, wanted: int, align_corners: bool) -> Taps:
    """The interpolation of ``torch.nn.functional.interpolate`` from ``length`` scores to ``wanted`` pixels."""
    k = np.arange(wanted, dtype=np.float64)
    if align_corners:
        places = k * ((length - 1) / (wanted - 1) if wanted > 1 else 0)
    else:
        places = np.maximum((k + 0.5) * length / wanted - 0.5, 0)
    low = np.minimum(places.astype(np.int64), length - 1)
    return Taps(low, np.minimum(low + 1, length - 1), places - low)


class ClassMapWriter:
    """Writes the best class of every pixel of an image, from scores on another grid.

    Args:
        size: (height, width) of the grid of scores.
        wanted: (height, width) of the image. The scores are interpolated as mmseg does.
        align_corners: as for ``torch.nn.functional.interpolate``.
        threshold: for a single score per pixel: its sigmoid must be higher for class 1.

    Attributes:
        indices: (height, width) numpy array, uint8 up to 256 classes, else uint16; None before the first scores.
    """

    def __init__(
        self,
        size: tuple[int, int],
        wanted: tuple[int, int],
        align_corners: bool = False,
        threshold: float | None = None,
    ):
        self.size, self.wanted, self.threshold = tuple(size), tuple(wanted), threshold
        self.rows, self.columns = (taps_of(n, m, align_corners) for n, m in zip(size, wanted, strict=True))
        self.indices: np.ndarray | None = None
        # Classes are the last axis here, so that a pixel's scores are copied as one piece.
        self.above: Tensor | None = None  # (1, W, C): the last row of scores above the part
        self.beside: Tensor | None = None  # (h, 1, C): the last column of scores before the part

    def add(self, scores: Tensor, top: int, left: int) -> None:
        """Takes a part of the scores, (C, h, w). The parts come from left to right and from top to bottom."""
        bottom, right = top + scores.shape[1], left + scores.shape[2]
        if self.indices is None:
            self.indices = np.zeros(self.wanted, np.uint8 if len(scores) <= 256 else np.uint16)
            self.above = scores.new_empty(1, self.size[1], len(scores))
        if self.size == self.wanted:
            self.indices[top:bottom, left:right] = self.best(scores, 0)
            return
        scores = scores.permute(1, 2, 0).contiguous()
        above, self.above[:, left:right] = self.above[:, left:right].clone(), scores[-1:]
        scores = torch.cat([above, scores]) if top else scores
        before, self.beside = self.beside, scores[:, -1:].clone()
        scores = torch.cat([before, scores], 1) if left else scores
        self.interpolate(scores, (max(top - 1, 0), bottom), (max(left - 1, 0), right), top, left)

    def interpolate(self, scores: Tensor, rows: tuple[int, int], columns: tuple[int, int], top: int, left: int) -> None:
        """Writes the pixels that need scores from ``top`` and ``left`` on. ``scores`` (h, w, C) have these rows."""
        first, last = np.searchsorted(self.rows.high, (top, rows[1])).tolist()
        start, end = np.searchsorted(self.columns.high, (left, columns[1])).tolist()
        step = max(1, AT_A_TIME // (scores.shape[2] * max(end - start, 1)))
        for upper in range(first, last, step):
            lower = min(upper + step, last)
            part = between(scores, self.rows, slice(upper, lower), rows[0], 0)
            part = between(part, self.columns, slice(start, end), columns[0], 1)
            self.indices[upper:lower, start:end] = self.best(part, 2)

    def best(self, scores: Tensor, dim: int) -> np.ndarray:
        """The best class of each pixel, (h, w). ``dim`` is the axis of the classes."""
        if scores.shape[dim] > 1:
            return scores.argmax(dim).cpu().numpy()
        return (scores.select(dim, 0).sigmoid() > self.threshold).cpu().numpy()


def forget_scores(model: Any) -> None:
    """Makes a segmenter of mmseg keep no scores of large images, in place.

    mmseg enlarges the scores of all classes to the image's own size: 60 GB for 150 classes and 100 megapixels.
    """
    by_mmseg = model.postprocess_result

    def postprocess(scores: Tensor, samples: Any = None) -> Any:
        if samples is None or not all(is_large(scores, one) for one in samples):
            return by_mmseg(scores, samples)
        for one, sample in zip(scores, samples, strict=True):
            left, right, top, bottom = sample.get("img_padding_size", sample.get("padding_size", [0] * 4))
            part = one[:, top : one.shape[1] - bottom, left : one.shape[2] - right]
            threshold = getattr(model.decode_head, "threshold", None)
            writer = ClassMapWriter(part.shape[1:], sample.ori_shape[:2], model.align_corners, threshold)
            writer.add(part, 0, 0)
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(writer.indices)[None])
        return samples

    model.postprocess_result = postprocess


def is_large(scores: Tensor, sample: Any) -> bool:
    """Whether the scores of an image in its own size would fill the memory. Mirrored views are left to mmseg."""
    height, width = sample.ori_shape[:2]
    return scores.shape[1] * height * width >= LARGE and not sample.get("flip")


def between(scores: Tensor, taps: Taps, pixels: slice, origin: int, dim: int) -> Tensor:
    """Scores (h, w, C) interpolated along an axis, for some pixels. ``origin`` is the index of their first one."""
    low, high = (torch.from_numpy(taps[k][pixels] - origin).to(scores.device) for k in (0, 1))
    weights = torch.from_numpy(taps.weights[pixels]).to(scores)
    weights = weights.reshape(-1, 1, 1) if dim == 0 else weights[:, None]
    return torch.lerp(scores.index_select(dim, low), scores.index_select(dim, high), weights)
