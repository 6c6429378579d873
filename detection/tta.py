"""Test-time augmentation for detectors with masks."""

import torch
from mmcv.ops import batched_nms
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_flip


@MODELS.register_module()
class InstanceTTA(DetTTAModel):
    """Joins the boxes of all views of an image by NMS. A box that is kept brings the mask from its own view.

    Views may differ in scale, and may be mirrored. ``tta_cfg`` has ``nms`` and ``max_per_img``, as for mmdet's
    DetTTAModel. mmdet's class refuses masks.
    """

    def test_step(self, data):
        """The joined predictions. The detector is not told that a view is mirrored.

        Otherwise Cascade Mask R-CNN would mirror the masks of its stages back, which fails, and is done here anyway.
        """
        predictions = []
        for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True):
            flips = [dict(flip=one.get("flip", False), flip_direction=one.get("flip_direction")) for one in samples]
            for sample in samples:
                sample.set_metainfo(dict(flip=False, flip_direction=None))
            outputs = self.module.test_step(dict(inputs=inputs, data_samples=samples))
            for output, flip in zip(outputs, flips, strict=True):
                output.set_metainfo(flip)
            predictions.append(outputs)
        return self.merge_preds(list(zip(*predictions, strict=True)))

    def _merge_single_sample(self, data_samples):
        views = [in_image_frame(sample) for sample in data_samples]
        joined = views[0].cat(views)
        if not len(joined):
            return data_samples[0]
        boxes, keep = batched_nms(joined.bboxes, joined.scores, joined.labels, self.tta_cfg.nms)
        keep = keep[: self.tta_cfg.max_per_img]
        merged = joined[keep]
        merged.scores = boxes[: len(keep), -1]  # soft NMS lowers them
        data_samples[0].pred_instances = merged
        return data_samples[0]


def in_image_frame(sample):
    """The predictions of a view, mirrored back into the frame of the original image."""
    instances = sample.pred_instances
    if sample.flip:
        direction = sample.flip_direction
        instances.bboxes = bbox_flip(instances.bboxes, sample.ori_shape, direction)
        if "masks" in instances:
            axes = {"horizontal": [-1], "vertical": [-2], "diagonal": [-2, -1]}[direction]
            instances.masks = torch.flip(instances.masks, axes)
    return instances
