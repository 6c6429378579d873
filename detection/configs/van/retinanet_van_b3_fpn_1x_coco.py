# 8 GPUs x 2 images, 12 epochs.
_base_ = [
    "../_base_/retinanet_fpn.py",
    "../_base_/coco_detection.py",
    "../_base_/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(
        arch="van_b3",
        pretrained="van_b3.in1k",
        drop_path_rate=0.3,  # not published for detection; the authors' value for UPerNet
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
