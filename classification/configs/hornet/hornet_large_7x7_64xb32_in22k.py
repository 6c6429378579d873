# 64 GPUs x 32 images, two batches per step: the authors' recipe.
_base_ = "../_base_/recipes/hornet_in22k.py"

model = dict(backbone=dict(arch="hornet_large_7x7"))
optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
