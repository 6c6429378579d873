# 8 GPUs x 128 images, 300 epochs: the authors' recipe.
_base_ = "../_base_/recipes/vig_300e.py"

model = dict(backbone=dict(arch="pvig_small", drop_path_rate=0.1))
