# ADE20K, 150 classes: images/{training,validation}, and single-channel masks of the same names in
# annotations/{training,validation}. In a mask 0 is unlabelled, and 1..150 are the classes. For your own masks set (in a
# config, or with --cfg-options):
#   data_root=FOLDER
#   classes=7   or   classes=["road", "car"]          number of classes, or their names
#   reduce_zero_label=False                           if mask value 0 is the first class, not "unlabelled"
#   train_dataloader.dataset.data_prefix.img_path=... (and seg_map_path; likewise val_dataloader) for other folders
# num_classes follows. 255 in a mask is always "unlabelled". Colours are those of metainfo.palette, else generated.
# Testing uses the validation set unless a config defines test_dataloader and test_evaluator.
data_root = "data/ade/ADEChallengeData2016"
classes = None
reduce_zero_label = True

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="MaskFolderDataset",
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadMask"),
            dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="MaskFolderDataset",
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(2048, 512), keep_ratio=True),
            dict(type="ResizeToMultiple", size_divisor=32),
            dict(type="LoadMask"),  # after the resizes, since predictions are compared at the image's own size
            dict(type="PackSegInputs"),
        ],
    ),
)
val_evaluator = dict(type="FullIoUMetric", iou_metrics=["mIoU"])
# With --tta: six scales, each also mirrored, as in most published multi-scale results.
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=(int(2048 * ratio), int(512 * ratio)), keep_ratio=True)
                for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [dict(type="ResizeToMultiple", size_divisor=32)],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [dict(type="LoadMask")],
            [dict(type="PackSegInputs")],
        ],
    ),
]
