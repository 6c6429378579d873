# 8 GPUs x 2 crops, 160,000 iterations. Published results are multi-scale (--tta).
_base_ = [
    "../_base_/upernet.py",
    "../_base_/ade20k.py",
    "../_base_/schedule_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="van_b1", pretrained="van_b1.in1k", drop_path_rate=0.1),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
