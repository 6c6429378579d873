# coco_detection_multiscale.py with masks.
_base_ = "coco_detection_multiscale.py"

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            *_base_.multi_scale,
        ]
    )
)
val_evaluator = dict(metric=["bbox", "segm"])
