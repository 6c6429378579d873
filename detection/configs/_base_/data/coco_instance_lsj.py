# coco_instance.py with large-scale jitter: images are resized by 0.1 to 2 and cropped to 1024x1024. `copy_paste = True`
# in a config also pastes objects of another image.
_base_ = "coco_instance.py"

train_dataloader = dict(
    sampler=dict(type="InfiniteSampler"),
    batch_sampler=None,
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="RandomResize", scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
            dict(
                type="RandomCrop",
                crop_size=(1024, 1024),
                crop_type="absolute",
                recompute_bbox=True,
                allow_negative_crop=True,
            ),
            dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
            dict(type="PackDetInputs"),
        ]
    ),
)
