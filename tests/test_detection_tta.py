"""Test-time augmentation of detectors: mirrored views are mirrored back, doubles are dropped, masks follow."""

import pytest
import torch


def view(boxes, scores, masks, flip):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    sample = DetDataSample(metainfo=dict(ori_shape=(40, 60), flip=flip, flip_direction="horizontal" if flip else None))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.zeros(len(scores), dtype=torch.long),
        masks=masks,
    )
    return sample


def filled(boxes):
    masks = torch.zeros(len(boxes), 40, 60, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    return masks


@pytest.fixture
def tta():
    from mmengine.config import ConfigDict
    from mmengine.model import BaseModel

    import detection  # noqa: F401
    from detection.tta import InstanceTTA

    class Detector(BaseModel):
        def forward(self, *args, **kwargs):
            raise NotImplementedError

    return InstanceTTA(module=Detector(), tta_cfg=ConfigDict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=10))


def test_a_box_seen_in_a_mirrored_view_is_merged_with_its_double(tta):
    straight = [[2.0, 5.0, 12.0, 15.0], [30.0, 10.0, 50.0, 30.0]]
    mirrored = [[48.0, 5.0, 58.0, 15.0]]  # the first, in an image 60 pixels wide
    views = [view(straight, [0.6, 0.9], filled(straight), False), view(mirrored, [0.8], filled(mirrored), True)]
    (merged,) = tta.merge_preds([views])
    found = merged.pred_instances
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    torch.testing.assert_close(found.bboxes, torch.tensor([straight[1], straight[0]]))
    assert torch.equal(found.masks, filled([straight[1], straight[0]]))


def test_no_boxes_at_all(tta):
    nothing = torch.zeros(0, 40, 60, dtype=torch.bool)
    (merged,) = tta.merge_preds([[view([], [], nothing, False), view([], [], nothing.clone(), True)]])
    assert len(merged.pred_instances) == 0
