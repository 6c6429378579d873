# 8 GPUs x 2 images, 12 epochs. VAN paper (arXiv 2202.09741), whose detection code was never released.
# The paper states no drop_path_rate: this is the authors' for UPerNet. Where it is silent, the bases do as Swin.
_base_ = [
    "../_base_/models/retinanet_fpn.py",
    "../_base_/data/coco_detection.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b3", drop_path_rate=0.3))
