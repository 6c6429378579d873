# 8 GPUs x 2 crops, 160,000 iterations. raoyongming/HorNet@ac9e210, semantic_segmentation/configs/horfpn.
_base_ = "../_base_/recipes/hornet_gn_upernet.py"

model = dict(backbone=dict(arch="hornet_small_7x7", drop_path_rate=0.3))
