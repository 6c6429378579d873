# COCO boxes at 1333x800. For your own COCO json set these three (in a config, or with --cfg-options):
#   data_root=FOLDER                                  holds the annotation files and the image folders
#   train_dataloader.dataset.ann_file=...             if the names below data_root differ from COCO's;
#   train_dataloader.dataset.data_prefix.img=...      the same for val_dataloader
# Classes and num_classes follow the annotation file. `classes=["cat", "dog"]` trains on some of its categories only.
# A data set without a data_root or classes of its own takes these. Testing uses the validation set, unless a config
# defines test_dataloader and test_evaluator.
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

data_root = "data/coco"
classes = None

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="CocoDataset",
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="RandomFlip", prob=0.5),
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
        type="CocoDataset",
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="PackDetInputs", meta_keys=meta_keys),
        ],
    ),
)
val_evaluator = dict(type="FullCocoMetric", metric="bbox")
# With --tta: the test scale and 0.75 and 1.25 of it, each also mirrored.
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=s, keep_ratio=True) for s in ((1333, 800), (1000, 600), (1666, 1000))],
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="PackDetInputs", meta_keys=(*meta_keys, "flip", "flip_direction"))],
        ],
    ),
]
