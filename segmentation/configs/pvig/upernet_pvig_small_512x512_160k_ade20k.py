# 8 GPUs x 2 crops, 160,000 iterations. Ours, unpublished: VAN's recipe.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_160k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="pvig_small", drop_path_rate=0.1))
