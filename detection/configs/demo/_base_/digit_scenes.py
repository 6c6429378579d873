# The demo's scenes of digits at their own 128x128. No mirroring: a mirrored 2 is no digit.
_base_ = "../../_base_/data/coco_instance.py"

meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
load = dict(type="LoadImageFromFile")
size = dict(type="Resize", scale=(128, 128), keep_ratio=True)

data_root = "data/demo/coco"
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type="InfiniteSampler"),
    dataset=dict(
        pipeline=[load, dict(type="LoadAnnotations", with_bbox=True, with_mask=True), size, dict(type="PackDetInputs")]
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(pipeline=[load, size, dict(type="PackDetInputs", meta_keys=meta_keys)]),
)
tta_pipeline = [
    load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (128, 160)],
            [dict(type="RandomFlip", prob=0.0)],
            [dict(type="PackDetInputs", meta_keys=(*meta_keys, "flip", "flip_direction"))],
        ],
    ),
]
