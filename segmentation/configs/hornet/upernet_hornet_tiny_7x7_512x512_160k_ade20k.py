# 8 GPUs x 2 crops, 160,000 iterations. raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_160k_stage_decay.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="hornet_tiny_7x7", drop_path_rate=0.4),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
