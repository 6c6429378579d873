# 8 GPUs x 2 crops, 160,000 iterations. raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet.
_base_ = "../_base_/recipes/hornet_upernet.py"

model = dict(backbone=dict(arch="hornet_tiny_gf", drop_path_rate=0.4, filter_sizes=(None, None, (24, 13), (12, 7))))
optim_wrapper = dict(paramwise_cfg=dict(num_layers=6), clip_grad=dict(max_norm=1.0))
