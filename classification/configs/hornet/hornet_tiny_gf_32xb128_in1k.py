# 32 GPUs x 128 images: the authors' recipe.
_base_ = "../_base_/recipes/hornet_in1k.py"

model = dict(backbone=dict(arch="hornet_tiny_gf", drop_path_rate=0.2))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
