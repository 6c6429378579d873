# coco_detection.py at 640x640 with mosaics and mixed images, 8 GPUs x 32 images. The images are resized by 0.1 to 2.
_base_ = "coco_detection.py"

grey = dict(img=(114, 114, 114))
cropped = [
    dict(type="RandomCrop", crop_size=(640, 640)),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Pad", size=(640, 640), pad_val=grey),
]
# Without mosaics, for the last epochs.
plain_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=(640, 640), ratio_range=(0.1, 2.0), keep_ratio=True),
    *cropped,
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=10,
    batch_sampler=None,
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="CachedMosaic", img_scale=(640, 640), pad_val=114.0),
            dict(type="RandomResize", scale=(1280, 1280), ratio_range=(0.1, 2.0), keep_ratio=True),
            *cropped,
            dict(
                type="CachedMixUp",
                img_scale=(640, 640),
                ratio_range=(1.0, 1.0),
                max_cached_images=20,
                pad_val=(114, 114, 114),
            ),
            dict(type="PackDetInputs"),
        ]
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(640, 640), keep_ratio=True),
            dict(type="Pad", size=(640, 640), pad_val=grey),
            dict(type="PackDetInputs", meta_keys=_base_.meta_keys),
        ]
    )
)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [dict(type="Resize", scale=(s, s), keep_ratio=True) for s in (640, 320, 960)]
tta_pipeline[1].transforms.insert(1, [dict(type="Pad", size_divisor=32, pad_val=grey)])
del grey, cropped
