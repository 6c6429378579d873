# 8 GPUs x 4 crops, 40,000 iterations: VAN-Segmentation, configs/sem_fpn. Published results are single-scale.
_base_ = [
    "../_base_/models/semantic_fpn.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_40k.py",
    "../_base_/runtime.py",
]

model = dict(
    # ImageNet's statistics, as in the authors' code, not those of the weights
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(arch="van_b3", drop_path_rate=0.3),
)
train_dataloader = dict(batch_size=4)
