# 8 GPUs x 4 crops, 40,000 iterations. Ours, unpublished: VAN's recipe.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_40k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="pvig_small", drop_path_rate=0.1))
train_dataloader = dict(batch_size=4)
