# 8 GPUs x 2 images, 36 epochs, multi-scale.
_base_ = [
    "../_base_/gfl_fpn.py",
    "../_base_/coco_detection_multiscale.py",
    "../_base_/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(
        arch="van_b2",
        pretrained="van_b2.in1k",
        drop_path_rate=0.1,  # not published for detection; the authors' value for UPerNet
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
