# 8 GPUs x 128 images: the authors' recipe.
_base_ = "../_base_/recipes/vig_in1k.py"

model = dict(backbone=dict(arch="vig_small", drop_path_rate=0.1))
