# 8 GPUs x 2 crops, 160,000 iterations. Figures of vvt_small are published in "Swin's setting", which is
# this schedule. No drop_path_rate is stated; the rate of the ImageNet training is taken.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_160k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="vvt_small", drop_path_rate=0.3))
