"""A user's own mmdetection or mmsegmentation config trains with one of our backbones, and is evaluated.

The configs inherit nothing from ours. They are query-based models with deformable attention, and detectors with
deformable convolutions.
"""

import dense_data
import numpy as np
import pytest
import torch

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

DIM, QUERIES = 32, 12

RUN = """
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
val_cfg = dict(type="ValLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.0))
default_hooks = dict(logger=dict(type="LoggerHook", interval=1), checkpoint=dict(type="CheckpointHook", interval=-1))
log_processor = dict(by_epoch=False, window_size=1)
"""

DETECTION = """
custom_imports = dict(imports=["detection"])
default_scope = "mmdet"
backbone = dict(type="VAN", arch="van_b0", out_indices=(1, 2, 3))
preprocessor = dict(
    type="DetDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_size_divisor=32, pad_mask=True)
load = dict(type="LoadImageFromFile")
size = dict(type="Resize", scale=(64, 64), keep_ratio=True)
keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
coco = dict(type="CocoDataset", data_root="{data}", metainfo=dict(classes=("box", "disc")))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler"),
    dataset=dict(ann_file="annotations/instances_train2017.json", data_prefix=dict(img="train2017/"), pipeline=[
        load, dict(type="LoadAnnotations", with_bbox=True, with_mask={masks}), size, dict(type="PackDetInputs")],
        **coco))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(ann_file="annotations/instances_val2017.json", data_prefix=dict(img="val2017/"), test_mode=True,
        pipeline=[load, size, dict(type="PackDetInputs", meta_keys=keys)], **coco))
val_evaluator = dict(
    type="CocoMetric", ann_file="{data}/annotations/instances_val2017.json", metric={metric})
"""

SEGMENTATION = """
custom_imports = dict(imports=["segmentation"])
default_scope = "mmseg"
backbone = dict(type="VAN", arch="van_b0", out_indices=(0, 1, 2, 3))
preprocessor = dict(
    type="SegDataPreProcessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
    pad_val=0, seg_pad_val=255, size=(64, 64), test_cfg=dict(size_divisor=32))
load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", reduce_zero_label=True)]
masks = dict(
    type="BaseSegDataset", data_root="{data}", img_suffix=".png", reduce_zero_label=True,
    metainfo=dict(classes=("box", "disc", "ground"), palette=[[9, 9, 9], [99, 9, 9], [9, 99, 9]]))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler"),
    dataset=dict(data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=[*load, dict(type="PackSegInputs")], **masks))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=[*load, dict(type="PackSegInputs")], **masks))
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
"""

MAPPER = f"""dict(
    type="ChannelMapper", in_channels=[64, 160, 256], kernel_size=1, out_channels={DIM}, act_cfg=None,
    norm_cfg=dict(type="GN", num_groups=8), num_outs=4)"""
MATCHER = """dict(assigner=dict(type="HungarianAssigner", match_costs=[
    dict(type="FocalLossCost", weight=2.0), dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
    dict(type="IoUCost", iou_mode="giou", weight=2.0)]))"""
BOX_LOSSES = """
    loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
    loss_bbox=dict(type="L1Loss", loss_weight=5.0), loss_iou=dict(type="GIoULoss", loss_weight=2.0)"""
LAYER = f"ffn_cfg=dict(embed_dims={DIM}, feedforward_channels=64)"
DETR = f"""
    data_preprocessor=preprocessor, backbone=backbone, neck={MAPPER},
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=dict(embed_dims={DIM}, num_levels=4), {LAYER})),
    decoder=dict(num_layers=2, return_intermediate=True, post_norm_cfg=None, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims={DIM}, num_heads=8, dropout=0.0),
        cross_attn_cfg=dict(embed_dims={DIM}, num_levels=4), {LAYER})),
    num_queries={QUERIES}, train_cfg={MATCHER}, test_cfg=dict(max_per_img=10)"""
DEFORMABLE_DETR = f"""
model = dict(type="DeformableDETR", num_feature_levels=4, with_box_refine=False, as_two_stage=False, {DETR},
    positional_encoding=dict(num_feats={DIM // 2}, normalize=True, offset=-0.5),
    bbox_head=dict(type="DeformableDETRHead", num_classes=2, embed_dims={DIM}, sync_cls_avg_factor=True, {BOX_LOSSES}))
"""
DINO = f"""
model = dict(type="DINO", with_box_refine=True, as_two_stage=True, {DETR},
    positional_encoding=dict(num_feats={DIM // 2}, normalize=True, offset=0.0, temperature=20),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=4)),
    bbox_head=dict(type="DINOHead", num_classes=2, embed_dims={DIM}, sync_cls_avg_factor=True, {BOX_LOSSES}))
"""


def mask2former_head(scope: str, classes: int) -> str:
    return f"""
    in_channels=[32, 64, 160, 256], strides=[4, 8, 16, 32], feat_channels={DIM}, out_channels={DIM},
    num_queries={QUERIES}, num_transformer_feat_level=3, enforce_decoder_input_project=False,
    positional_encoding=dict(num_feats={DIM // 2}, normalize=True),
    pixel_decoder=dict(type="{scope}MSDeformAttnPixelDecoder", num_outs=3, norm_cfg=dict(type="GN", num_groups=8),
        act_cfg=dict(type="ReLU"), positional_encoding=dict(num_feats={DIM // 2}, normalize=True),
        encoder=dict(num_layers=1, layer_cfg=dict(
            self_attn_cfg=dict(embed_dims={DIM}, num_heads=8, num_levels=3, num_points=4, dropout=0.0,
                batch_first=True), {LAYER}))),
    transformer_decoder=dict(return_intermediate=True, num_layers=2, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims={DIM}, num_heads=8, batch_first=True),
        cross_attn_cfg=dict(embed_dims={DIM}, num_heads=8, batch_first=True), {LAYER})),
    loss_cls=dict(type="{scope}CrossEntropyLoss", use_sigmoid=False, loss_weight=2.0, reduction="mean",
        class_weight=[1.0] * {classes} + [0.1]),
    loss_mask=dict(type="{scope}CrossEntropyLoss", use_sigmoid=True, reduction="mean", loss_weight=5.0),
    loss_dice=dict(type="{scope}DiceLoss", use_sigmoid=True, activate=True, reduction="mean", naive_dice=True, eps=1.0,
        loss_weight=5.0)"""


def mask2former_training(scope: str) -> str:
    return f"""dict(num_points=128, oversample_ratio=3.0, importance_sample_ratio=0.75,
    assigner=dict(type="{scope}HungarianAssigner", match_costs=[
        dict(type="{scope}ClassificationCost", weight=2.0),
        dict(type="{scope}CrossEntropyLossCost", weight=5.0, use_sigmoid=True),
        dict(type="{scope}DiceCost", weight=5.0, pred_act=True, eps=1.0)]),
    sampler=dict(type="{scope}MaskPseudoSampler"))"""


MASK2FORMER = f"""
backbone.update(out_indices=(0, 1, 2, 3))
model = dict(type="Mask2Former", data_preprocessor=preprocessor, backbone=backbone,
    panoptic_head=dict(type="Mask2FormerHead", num_things_classes=2, num_stuff_classes=0, {mask2former_head("", 2)}),
    panoptic_fusion_head=dict(type="MaskFormerFusionHead", num_things_classes=2, num_stuff_classes=0,
        loss_panoptic=None, init_cfg=None),
    train_cfg={mask2former_training("")},
    test_cfg=dict(panoptic_on=False, semantic_on=False, instance_on=True, max_per_image=10, iou_thr=0.8,
        filter_low_score=True))
"""
MASK2FORMER_SEMANTIC = f"""
model = dict(type="EncoderDecoder", data_preprocessor=preprocessor, backbone=backbone,
    decode_head=dict(type="Mask2FormerHead", num_classes=3, align_corners=False, {mask2former_head("mmdet.", 3)},
        train_cfg={mask2former_training("mmdet.")}),
    train_cfg=dict(), test_cfg=dict(mode="whole"))
"""
REPPOINTS = f"""
model = dict(type="RepPointsDetector", data_preprocessor=preprocessor, backbone=backbone,
    neck=dict(type="FPN", in_channels=[64, 160, 256], out_channels={DIM}, num_outs=3),
    bbox_head=dict(type="RepPointsHead", num_classes=2, in_channels={DIM}, feat_channels={DIM},
        point_feat_channels={DIM}, stacked_convs=1, num_points=9, gradient_mul=0.1, point_strides=[8, 16, 32],
        point_base_scale=4,
        norm_cfg=dict(type="GN", num_groups=8, requires_grad=True),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox_init=dict(type="SmoothL1Loss", beta=0.11, loss_weight=0.5),
        loss_bbox_refine=dict(type="SmoothL1Loss", beta=0.11, loss_weight=1.0), transform_method="moment"),
    train_cfg=dict(
        init=dict(assigner=dict(type="PointAssigner", scale=4, pos_num=1), allowed_border=-1, pos_weight=-1,
            debug=False),
        refine=dict(assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
            ignore_iof_thr=-1), allowed_border=-1, pos_weight=-1, debug=False)),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.5), max_per_img=10))
"""
DETECTORS = {
    "deformable_detr": (DEFORMABLE_DETR, ["bbox"]),
    "dino": (DINO, ["bbox"]),
    "mask2former": (MASK2FORMER, ["bbox", "segm"]),
    "reppoints": (REPPOINTS, ["bbox"]),
}


def train(tmp_path, text):
    """The metrics after two steps, in which gradients (there is no decay) must move every weight of the backbone."""
    path = tmp_path / "mine.py"
    path.write_text(text + RUN)
    runner = build_training(load_config(path), tmp_path / "run", device="cpu")
    runner.model.init_weights()
    before = {key: value.clone() for key, value in runner.model.backbone.named_parameters()}
    runner.train()

    assert [key for key, value in runner.model.backbone.named_parameters() if torch.equal(value, before[key])] == []
    losses = runner.message_hub.get_scalar("train/loss").data[0]
    assert len(losses) == 2 and np.isfinite(losses).all()
    return {key for key in runner.message_hub.log_scalars if key.startswith("val/")}


@pytest.mark.parametrize("name", DETECTORS)
def test_detector(name, tmp_path):
    data = dense_data.write_coco(tmp_path / "data", {"train": 2, "val": 1})
    model, metrics = DETECTORS[name]
    text = DETECTION.format(data=data, masks="segm" in metrics, metric=metrics)
    assert {f"val/coco/{metric}_mAP" for metric in metrics} <= train(tmp_path, text + model)


def test_mask2former_for_semantic_segmentation(tmp_path):
    data = dense_data.write_masks(tmp_path / "data", {"training": 2, "validation": 1})
    assert "val/mIoU" in train(tmp_path, SEGMENTATION.format(data=data) + MASK2FORMER_SEMANTIC)
