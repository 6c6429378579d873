"""How the dense tasks load image files: by the one reader of ``backbones.images``."""

from typing import Any

import cv2
import numpy as np
from mmengine import fileio

from backbones.errors import UserError
from backbones.images import check_image, is_plain, read_image


class OneReader:
    """Goes before mmcv's LoadImageFromFile: the pixels are those of ``read_image``, as BGR, and a bad file is named.

    mmcv's own decoding makes a float TIFF a failed assertion, and decodes a cut-off JPEG as if nothing were missing.
    With another ``color_type`` or ``imdecode_backend`` mmcv decodes, after ``check_image``.

    Raises:
        UserError: as ``read_image``, unless ``ignore_empty``, which then drops the image.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        path = results["img_path"]
        if (self.color_type, self.imdecode_backend, self.file_client_args) != ("color", "cv2", None):
            if "://" not in str(path):
                check_image(path)
            return super().transform(results)
        try:
            pixels = read_bgr(path, self.backend_args)
        except UserError:
            if self.ignore_empty:
                return None
            raise
        results["img"] = pixels.astype(np.float32) if self.to_float32 else pixels
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


def read_bgr(path: str, backend_args: dict[str, Any] | None = None) -> np.ndarray:
    """The image as mm's pipelines hold it, uint8 (H, W, 3) in BGR.

    Plain files are decoded by OpenCV, which is faster than Pillow; their pixels are equal.

    Args:
        path: a file, or an address that mmengine's file backends know.
        backend_args: of that backend.

    Raises:
        UserError: as ``read_image``.
    """
    try:
        content = fileio.get(path, backend_args=backend_args)
    except OSError:
        content = None  # absent, a folder or not to be opened: read_image says which
    if content and is_plain(path, content):
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            return pixels
    return np.ascontiguousarray(np.asarray(read_image(path, content))[..., ::-1])
