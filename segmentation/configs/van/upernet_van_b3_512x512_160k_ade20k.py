# 8 GPUs x 2 crops, 160,000 iterations: VAN-Segmentation, configs/upernet. Published results are multi-scale (--tta).
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    # ImageNet's statistics, as in the authors' code, not those of the weights
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(arch="van_b3", drop_path_rate=0.3),
)
