# 8 GPUs x 4 crops, 40,000 iterations. Published results are single-scale.
_base_ = [
    "../_base_/semantic_fpn.py",
    "../_base_/ade20k.py",
    "../_base_/schedule_40k.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="van_b1", pretrained="van_b1.in1k", drop_path_rate=0.2),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
train_dataloader = dict(batch_size=4)
