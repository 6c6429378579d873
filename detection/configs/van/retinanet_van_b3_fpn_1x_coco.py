# 8 GPUs x 2 images, 12 epochs. VAN paper (arXiv 2202.09741); its detection code was never released.
# The paper states no drop_path_rate: the authors' rate for UPerNet is taken. Swin's values fill the paper's other gaps.
_base_ = [
    "../_base_/models/retinanet_fpn.py",
    "../_base_/data/coco_detection.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="van_b3", drop_path_rate=0.3))
