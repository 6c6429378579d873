# The real VAN-B0 with slim heads on the demo's scenes of digits, about two minutes on one CPU core. The demo starts
# it from its own classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "../_base_/mask_rcnn_fpn.py",
    "../_base_/coco_instance.py",
    "../_base_/adamw_1x.py",
    "../_base_/runtime.py",
]

data_root = "data/demo/coco"
model = dict(
    backbone=dict(arch="van_b0", pretrained=None),
    neck=dict(in_channels=[32, 64, 160, 256], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[6])),
    roi_head=dict(
        # Two samples a bin instead of one a feature cell: most of the training time went into the latter's gradient.
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=2)),
        mask_head=dict(in_channels=64, conv_out_channels=64, num_convs=2),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=20)),
)

load = dict(type="LoadImageFromFile")
size = dict(type="Resize", scale=(128, 128), keep_ratio=True)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type="InfiniteSampler"),
    dataset=dict(
        # No mirroring: a mirrored 2 is no digit.
        pipeline=[load, dict(type="LoadAnnotations", with_bbox=True, with_mask=True), size, dict(type="PackDetInputs")]
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        pipeline=[
            load,
            size,
            dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
        ]
    ),
)
optim_wrapper = dict(optimizer=dict(lr=8e-4), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=0, end=200),
]
randomness = dict(seed=0)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=200, val_interval=50)
default_hooks = dict(logger=dict(interval=20, log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=200))
log_processor = dict(window_size=20, by_epoch=False)
tta_pipeline = [
    load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (128, 160)],
            [dict(type="RandomFlip", prob=0.0)],
            [
                dict(
                    type="PackDetInputs",
                    meta_keys=(
                        "img_id",
                        "img_path",
                        "ori_shape",
                        "img_shape",
                        "scale_factor",
                        "flip",
                        "flip_direction",
                    ),
                )
            ],
        ],
    ),
]
