# COCO's panoptic maps, with large-scale jitter: images are resized by 0.1 to 2 and cropped to 1024x1024.
# For your own maps in COCO's panoptic format set the three keys of coco_detection.py, and
#   train_dataloader.dataset.data_prefix.seg=...      the folder of the maps; the same for val_dataloader
# Classes, and which of them are things, follow the annotation file.
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

data_root = "data/coco"
classes = None

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CocoPanopticDataset",
        ann_file="annotations/panoptic_train2017.json",
        data_prefix=dict(img="train2017", seg="annotations/panoptic_train2017"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadPanopticAnnotations", with_bbox=True, with_mask=True, with_seg=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="RandomResize", scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
            dict(
                type="RandomCrop",
                crop_size=(1024, 1024),
                crop_type="absolute",
                recompute_bbox=True,
                allow_negative_crop=True,
            ),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoPanopticDataset",
        ann_file="annotations/panoptic_val2017.json",
        data_prefix=dict(img="val2017", seg="annotations/panoptic_val2017"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="PackDetInputs", meta_keys=meta_keys),
        ],
    ),
)
val_evaluator = dict(type="FullCocoPanopticMetric")
