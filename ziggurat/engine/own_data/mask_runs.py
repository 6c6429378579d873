"""Masks of COCO's form as its compressed run lengths, checked before pycocotools reads them."""

from typing import Any

from backbones.errors import UserError
from ziggurat.engine.coco_masks import is_mask, mask_tools


def run_lengths(mask: Any, height: int, width: int, where: str) -> dict[str, Any]:
    """Polygons or run lengths as compressed run lengths of an image.

    Args:
        mask: in COCO's form.
        height, width: of the image.
        where: file and entry, for errors.

    Raises:
        UserError: this is no mask of such an image, or pycocotools is not installed.
    """
    if not mask or not is_mask(mask, width, height):
        raise UserError(
            f"{where}: a bad mask; allowed: polygons of three or more points, or run lengths of the image's size, "
            f"{width}x{height}"
        )
    coco_mask = mask_tools()
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    return coco_mask.frPyObjects(mask, height, width) if isinstance(mask["counts"], list) else mask
