# 8 GPUs x 2 images, 12 epochs. Ours, unpublished: VAN's recipe. A simple feature pyramid replaces the FPN.
_base_ = [
    "../_base_/models/mask_rcnn_fpn.py",
    "../_base_/data/coco_instance.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="vig_small", drop_path_rate=0.1))
