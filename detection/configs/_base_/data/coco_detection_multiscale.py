# COCO boxes at several scales, as in Swin's 36-epoch runs: short side 480 to 800. Half of the images are cropped
# first, as in DETR.
_base_ = "coco_detection.py"

short_sides = [(side, 1333) for side in range(480, 801, 32)]
multi_scale = [
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="RandomChoiceResize", scales=short_sides, keep_ratio=True)],
            [
                dict(type="RandomChoiceResize", scales=[(s, 1333) for s in (400, 500, 600)], keep_ratio=True),
                dict(type="RandomCrop", crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True),
                dict(type="RandomChoiceResize", scales=short_sides, keep_ratio=True),
            ],
        ],
    ),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True), *multi_scale])
)
