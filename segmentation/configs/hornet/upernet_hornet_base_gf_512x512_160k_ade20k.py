# 8 GPUs x 2 crops, 160,000 iterations. raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet.
# The authors' table says crops of 640, their config 512.
_base_ = "../_base_/recipes/hornet_upernet.py"

model = dict(backbone=dict(arch="hornet_base_gf", drop_path_rate=0.5, filter_sizes=(None, None, (24, 13), (12, 7))))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
