# 8 GPUs x 2 crops, 160,000 iterations. Published results are multi-scale (--tta).
_base_ = [
    "../_base_/upernet.py",
    "../_base_/ade20k.py",
    "../_base_/schedule_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="van_b0", pretrained="van_b0.in1k", drop_path_rate=0.1),
    decode_head=dict(in_channels=[32, 64, 160, 256]),
    auxiliary_head=dict(in_channels=160),
)
