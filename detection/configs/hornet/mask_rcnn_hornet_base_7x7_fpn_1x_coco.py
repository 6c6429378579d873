# Ours, unpublished. 8 GPUs x 2 images, 12 epochs, multi-scale: the recipe that
# raoyongming/HorNet@ac9e210 has for hornet_small_7x7.
_base_ = "../_base_/recipes/hornet_mask_rcnn_1x.py"

model = dict(backbone=dict(arch="hornet_base_7x7", drop_path_rate=0.7))
