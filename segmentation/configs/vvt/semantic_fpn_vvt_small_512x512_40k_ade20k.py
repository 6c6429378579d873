# 8 GPUs x 4 crops, 40,000 iterations. Figures of vvt_small are published in "PVT's setting",
# without a recipe; VAN's is taken.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_40k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="vvt_small", drop_path_rate=0.3))
train_dataloader = dict(batch_size=4)
