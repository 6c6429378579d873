# 8 GPUs x 2 crops, 160,000 iterations. raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet.
# Global filters keep the size of the weights, (14, 8) and (7, 4). The authors resize them to (24, 13) and (12, 7).
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/data/ade20k.py",
    "../_base_/schedules/schedule_160k_stage_decay.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="hornet_tiny_gf", drop_path_rate=0.4),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
