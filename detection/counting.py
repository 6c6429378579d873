"""The pass of a detector that papers count: everything but the choice of boxes, on a fixed number of regions.

Source: ``forward_dummy`` of mmdetection 2.x, by which the published figures were counted.
"""

from typing import Any

from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from backbones import UserError

BOXES, MASKS = 1000, 100  # regions that the heads of a two-stage detector see


def counted_pass(model: Any, images: Tensor) -> None:
    """Runs a detector on images (B, 3, H, W) of the meta device.

    Raises:
        UserError: the regions' heads of the detector are of a kind that is not known here.
    """
    if isinstance(model, TwoStageDetector):
        maps = model.extract_feat(images)
        if model.with_rpn:
            model.rpn_head(maps)
        regions(model.roi_head, images, maps[0].shape[1])
        return
    size = tuple(images.shape[-2:])
    sample = DetDataSample(
        metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    )
    model(images, [sample] * len(images), mode="tensor")


def regions(head: Any, images: Tensor, channels: int) -> None:
    """Runs the heads of a two-stage detector on regions of a map with this number of channels."""
    if type(head) not in (StandardRoIHead, CascadeRoIHead):
        raise UserError(f"roi_head {type(head).__name__} cannot be counted; allowed: StandardRoIHead, CascadeRoIHead")
    for name, number in (("bbox", BOXES), ("mask", MASKS)):
        heads = getattr(head, f"{name}_head", None)
        if heads is None:
            continue
        extractor = getattr(head, f"{name}_roi_extractor")
        several = isinstance(heads, nn.ModuleList)
        for i, one in enumerate(heads if several else [heads]):
            side = (extractor[i] if isinstance(extractor, nn.ModuleList) else extractor).roi_layers[0].output_size[0]
            one(images.new_empty(number, channels, side, side))
