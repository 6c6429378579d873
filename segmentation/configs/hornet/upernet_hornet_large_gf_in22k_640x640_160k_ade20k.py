# 8 GPUs x 2 crops, 160,000 iterations, from ImageNet-22K.
# raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet.
_base_ = "../_base_/recipes/hornet_upernet_640.py"

model = dict(
    backbone=dict(arch="hornet_large_gf", filter_sizes=(None, None, (24, 13), (12, 7)), grad_checkpointing=True)
)
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
