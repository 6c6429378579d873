# 8 GPUs x 2 images, 36 epochs, multi-scale. VAN paper (arXiv 2202.09741), whose detection code was never released.
# The paper states no drop_path_rate: this is the authors' for UPerNet. Where it is silent, the bases do as Swin.
_base_ = [
    "../_base_/models/cascade_mask_rcnn_fpn.py",
    "../_base_/data/coco_instance_multiscale.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1))
