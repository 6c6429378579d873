"""Masks that stay run-length codes until somebody reads their pixels.

Resizing, mirroring, cropping and padding by nearest pixels treat rows and columns apart. So these steps only change two
lists: the row of the file's mask that each row of the image shows, and likewise for the columns. No step touches a
pixel, and a worker of a data loader sends some hundred bytes a mask instead of a million. The pixels are those of
mmdetection's BitmapMasks, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.datasets.transforms import loading
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes, get_box_type
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask
from torch import Tensor

from backbones import UserError

OUTSIDE = -1  # a row or column beyond the file's mask, where the mask is 0


class EncodedMasks(BitmapMasks):
    """The masks of an image, uint8 (N, height, width) in ``masks``, which are drawn when ``masks`` is read.

    What is not overridden here works on the drawn masks, and returns plain BitmapMasks. Assigning ``masks`` makes plain
    BitmapMasks of this object.

    Args:
        codes: COCO's compressed run-length code of each mask, all of one size.
        rows: (height,) the row of the coded masks at each row, or ``OUTSIDE``.
        columns: (width,) likewise.
    """

    def __init__(self, codes: Sequence[dict[str, Any]], rows: np.ndarray, columns: np.ndarray):
        self.codes, self.rows, self.columns = list(codes), rows, columns
        self.height, self.width = len(rows), len(columns)
        self.drawn: np.ndarray | None = None

    @property
    def masks(self) -> np.ndarray:
        if self.drawn is None:
            self.drawn = np.stack([self.draw(code) for code in self.codes]) if self.codes else self.none()
        return self.drawn

    @masks.setter
    def masks(self, masks: np.ndarray) -> None:
        height, width = self.height, self.width
        self.__dict__.clear()
        self.__class__ = BitmapMasks
        BitmapMasks.__init__(self, masks, height, width)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process: never the pixels."""
        return self.__dict__ | {"drawn": None}

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> "EncodedMasks":
        chosen = np.atleast_1d(np.arange(len(self.codes))[index])
        return EncodedMasks([self.codes[i] for i in chosen], self.rows, self.columns)

    def none(self) -> np.ndarray:
        return np.empty((0, self.height, self.width), np.uint8)

    def draw(self, code: dict[str, Any]) -> np.ndarray:
        """A mask's pixels, uint8 (height, width)."""
        pixels = np.zeros((self.height, self.width), np.uint8)
        down, across, inside = self.inside(code)
        if inside.size:
            pixels[down[0] : down[-1] + 1, across[0] : across[-1] + 1] = inside
        return pixels

    def inside(self, code: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows and columns at which a mask can have pixels, ascending without gaps, and its pixels there."""
        x, y, width, height = coco_mask.toBbox(code).astype(int)
        down = np.flatnonzero((self.rows >= y) & (self.rows < y + height))
        across = np.flatnonzero((self.columns >= x) & (self.columns < x + width))
        if not down.size or not across.size:
            return down, across, np.empty((0, 0), np.uint8)
        whole = coco_mask.decode(code)
        return down, across, whole[self.rows[down]][:, self.columns[across]]

    def rescale(self, scale: Any, interpolation: str = "nearest") -> BitmapMasks:
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width), interpolation)

    def resize(self, out_shape: tuple[int, int], interpolation: str = "nearest") -> BitmapMasks:
        if interpolation != "nearest":
            return super().resize(out_shape, interpolation)
        rows, columns = (
            lines[nearest(len(lines), side)] for lines, side in zip((self.rows, self.columns), out_shape, strict=True)
        )
        return EncodedMasks(self.codes, rows, columns)

    def flip(self, flip_direction: str = "horizontal") -> BitmapMasks:
        rows = self.rows if flip_direction == "horizontal" else self.rows[::-1]
        columns = self.columns if flip_direction == "vertical" else self.columns[::-1]
        return EncodedMasks(self.codes, rows, columns)

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        if pad_val:
            return super().pad(out_shape, pad_val)
        rows, columns = (
            np.pad(lines, (0, side - len(lines)), constant_values=OUTSIDE)
            for lines, side in zip((self.rows, self.columns), out_shape, strict=True)
        )
        return EncodedMasks(self.codes, rows, columns)

    def crop(self, bbox: np.ndarray) -> BitmapMasks:
        x1, x2 = np.clip(bbox[0::2], 0, self.width)
        y1, y2 = np.clip(bbox[1::2], 0, self.height)
        return EncodedMasks(self.codes, self.rows[y1 : max(y2, y1 + 1)], self.columns[x1 : max(x2, x1 + 1)])

    @property
    def areas(self) -> np.ndarray:
        """The number of pixels of each mask, (N,)."""
        return np.array([self.inside(code)[2].sum(dtype=np.uint64) for code in self.codes], np.uint64)

    def get_bboxes(self, dst_type: Any = "hbox") -> Any:
        """Boxes around the masks' pixels, of the type of that name. A mask without pixels has a box of zeros."""
        if get_box_type(dst_type)[1] is not HorizontalBoxes:
            return super().get_bboxes(dst_type)
        boxes = np.zeros((len(self), 4), np.float32)
        for box, code in zip(boxes, self.codes, strict=True):
            down, across, inside = self.inside(code)
            if inside.any():
                down, across = down[inside.any(1)], across[inside.any(0)]
                box[:] = across[0], down[0], across[-1] + 1, down[-1] + 1
        return HorizontalBoxes(boxes)

    def crop_and_resize(
        self,
        bboxes: np.ndarray | Tensor,
        out_shape: tuple[int, int],
        inds: np.ndarray | Tensor,
        device: Any = "cpu",
        interpolation: str = "bilinear",
        binarize: bool = True,
    ) -> BitmapMasks:
        """The mask ``inds[i]`` within the box ``bboxes[i]``, resized to ``out_shape``, for every box.

        mmdetection copies a whole mask for each box, in training up to 128 masks of the image's size as floats. Here
        all boxes of a mask read the same one.
        """
        if not len(self) or not len(bboxes):
            return BitmapMasks(np.empty((0, *out_shape), np.uint8), *out_shape)
        bboxes, inds = (torch.as_tensor(values, device=device) for values in (bboxes, inds))
        masks = torch.from_numpy(self.masks).to(device).to(bboxes.dtype)[:, None]
        rois = torch.cat([inds.to(bboxes.dtype)[:, None], bboxes], dim=1)
        targets = roi_align(masks, rois, out_shape, 1.0, 0, "avg", True).squeeze(1)
        return BitmapMasks((targets >= 0.5 if binarize else targets).cpu().numpy(), *out_shape)

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        return BitmapMasks.cat(masks)


def nearest(side: int, wanted: int) -> np.ndarray:
    """For each of the ``wanted`` rows of a resized image, the row of the original that OpenCV takes, (wanted,)."""
    return np.minimum(np.floor(np.arange(wanted) * (1.0 / (wanted / side))).astype(int), side - 1)


@TRANSFORMS.register_module(force=True)
class LoadAnnotations(loading.LoadAnnotations):
    """mmdetection's LoadAnnotations with :class:`EncodedMasks` in place of BitmapMasks."""

    def _load_masks(self, results: dict[str, Any]) -> None:
        if not self.poly2mask:
            super()._load_masks(results)
            return
        height, width = results["ori_shape"]
        codes = [encoded(mask, height, width) for mask in self._process_masks(results)]
        other = next((code["size"] for code in codes if tuple(code["size"]) != (height, width)), None)
        if other:
            path = results.get("img_path", "an image")
            raise UserError(f"{path} has {width}x{height} pixels, and a mask of {other[1]}x{other[0]}")
        results["gt_masks"] = EncodedMasks(codes, np.arange(height), np.arange(width))


def encoded(mask: list | dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """The compressed run-length code of COCO's polygons, or of an other run-length code."""
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    return coco_mask.frPyObjects(mask, height, width) if isinstance(mask["counts"], list) else mask
