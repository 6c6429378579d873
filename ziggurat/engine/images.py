"""Images for the dense tasks: mm's loading step with our reader, and mm's test pipelines for one image."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine import fileio
from mmengine.dataset import Compose
from PIL import Image

from backbones.checks import check_size
from backbones.errors import UnreadableImage, UserError
from backbones.files import read_again
from backbones.images import check_is_file, read_pixels
from backbones.pixels import picture
from backbones.plain_files import check_image, is_plain
from backbones.reading import READING, Reading, reading_of
from ziggurat.engine.parts import kind_of


class OneReader:
    """A base class to put before mmcv's LoadImageFromFile. The pixels are those of ``read_pixels``; RGB becomes BGR.

    mmcv alone stops at a float TIFF with a failed assertion, and fills a cut-off JPEG with grey. If a config sets
    ``color_type`` or ``imdecode_backend``, mmcv decodes after ``check_image``.

    Args:
        reading: the rule, as for ``reading_of``. The completion of a config writes it.
        *args, **kwargs: as for mmcv's LoadImageFromFile.

    Raises:
        UserError: mmcv is to decode, and the rule is not the default.
        UnreadableImage: as the UserError of ``read_image``. With ``ignore_empty`` the image is dropped instead.
    """

    def __init__(self, *args: Any, reading: dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.reading = reading_of(reading)
        self.by_mmcv = (self.color_type, self.imdecode_backend, self.file_client_args) != ("color", "cv2", None)
        if self.by_mmcv and self.reading != READING:
            given = f"color_type={self.color_type!r}, imdecode_backend={self.imdecode_backend!r}"
            raise UserError(
                f"LoadImageFromFile has {given}, and mmcv's readers know no reading={reading!r}; leave one out"
            )

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        path, by_mmcv = results["img_path"], self.by_mmcv
        try:
            if not by_mmcv:
                pixels = read_bgr(path, self.backend_args, self.reading)
            elif "://" not in str(path):
                check_image(path)
        except UserError as error:
            if self.ignore_empty and not by_mmcv:
                return None
            raise UnreadableImage(str(error)) from error
        if by_mmcv:
            return super().transform(results)
        results["img"] = pixels.astype(np.float32) if self.to_float32 else pixels
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


def read_bgr(path: str, backend_args: dict[str, Any] | None = None, reading: Reading = READING) -> np.ndarray:
    """The image as mm's pipelines hold it, uint8 (H, W, C): three channels in BGR, others in the file's order.

    OpenCV decodes plain files, since OpenCV is faster than Pillow. The pixels are equal.

    Args:
        path: a file, or an address that mmengine's file backends know.
        backend_args: the arguments of that backend.
        reading: the rule.

    Raises:
        UserError: as ``read_image``.
    """
    check_is_file(path)
    try:
        content = read_again(partial(fileio.get, path, backend_args=backend_args))
    except OSError:
        content = None  # absent, a folder or not to be opened: read_pixels says which
    if content and reading.channels == 3 and is_plain(path, content, reading.upright, reading.max_pixels):
        # Damaged EXIF data may have an orientation for OpenCV, though Pillow found none.
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            return pixels
    return in_order_of_mm(read_pixels(path, content, reading))


def in_order_of_mm(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C) in the order of mm's pipelines: RGB becomes BGR."""
    return np.ascontiguousarray(pixels[..., ::-1] if pixels.shape[2] == 3 else pixels)


def through_pipeline(steps: list[dict[str, Any]]) -> Callable[[str | Path | np.ndarray], dict[str, Any]]:
    """A test pipeline of mmdet or mmseg for one image, without the steps that load its truth.

    Args:
        steps: the configs of the transforms.

    Returns:
        A function of one image. A path goes through the pipeline's loading step. An array of pixels, uint8 (H, W, C)
        with three channels in RGB, skips that step.
    """
    loading = [step for step in steps if kind_of(step).startswith("LoadImage")]
    load = Compose(loading)
    rest = Compose(without_loading(steps))
    to_float32 = any(step.get("to_float32") for step in loading)

    def run(image: str | Path | np.ndarray) -> dict[str, Any]:
        if isinstance(image, np.ndarray):
            name, pixels = "image", in_order_of_mm(image)
            shape = pixels.shape[:2]
            data = dict(img=pixels.astype(np.float32) if to_float32 else pixels, img_shape=shape, ori_shape=shape)
        else:
            name = str(image)
            data = load(dict(img_path=name))
            if data is None:
                raise UserError(f"image cannot be read: {name}")
        height, width = data["ori_shape"]
        check_size(name, height, width)
        return rest({"img_path": name, "img_id": 0, "height": height, "width": width, "seg_fields": [], **data})

    return run


def without_loading(steps: Sequence[Any]) -> list[Any]:
    """The steps of a pipeline that load nothing, also in the views of test-time augmentation."""
    kept = []
    for step in steps:
        if isinstance(step, dict) and kind_of(step).startswith("Load"):
            continue
        if isinstance(step, dict) and step.get("transforms") is not None:
            choices = [without_loading(one) if isinstance(one, list | tuple) else one for one in step["transforms"]]
            step = {**step, "transforms": [one for one in choices if one != []]}
        kept.append(step)
    return kept


def from_bgr(inputs: torch.Tensor) -> Image.Image:
    """A PIL image from (C, H, W), 0..255, as mm's pipelines give it: three channels are BGR, others as in a file."""
    ordered = inputs.flip(0) if len(inputs) == 3 else inputs
    return picture(ordered.permute(1, 2, 0).to(torch.uint8).contiguous().numpy())
