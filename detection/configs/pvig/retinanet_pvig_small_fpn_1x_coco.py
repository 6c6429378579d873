# 8 GPUs x 2 images, 12 epochs. Figures of pvig_small are published, but no recipe; VAN's is taken.
_base_ = [
    "../_base_/models/retinanet_fpn.py",
    "../_base_/data/coco_detection.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="pvig_small", drop_path_rate=0.1))
