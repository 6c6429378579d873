# 32 GPUs x 128 images, 300 epochs: the authors' recipe.
_base_ = "../_base_/recipes/hornet_300e.py"

model = dict(backbone=dict(arch="hornet_tiny_7x7", drop_path_rate=0.2))
optim_wrapper = dict(clip_grad=dict(max_norm=100.0))
