# 8 GPUs x 2 images, 36 epochs, multi-scale. VAN paper (arXiv 2202.09741); its detection code was never released.
# The paper states no drop_path_rate: the authors' rate for UPerNet is taken. Swin's values fill the paper's other gaps.
_base_ = [
    "../_base_/models/atss_fpn.py",
    "../_base_/data/coco_detection_multiscale.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1))
