# 8 GPUs x 2 crops, 160,000 iterations, from ImageNet-22K.
# raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet.
_base_ = "../_base_/recipes/hornet_upernet_640.py"

model = dict(backbone=dict(arch="hornet_large_7x7"))
