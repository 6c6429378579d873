# 8 GPUs x 64 images: ours, since the authors publish no recipe.
_base_ = "../_base_/recipes/vvt_in1k_384.py"

model = dict(backbone=dict(arch="vvt_large"))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
