# 8 GPUs x 2 images, 36 epochs, multi-scale. raoyongming/HorNet@ac9e210, object_detection/configs/hornet.
_base_ = "../_base_/recipes/hornet_cascade_3x.py"

model = dict(backbone=dict(arch="hornet_tiny_gf", drop_path_rate=0.4))
