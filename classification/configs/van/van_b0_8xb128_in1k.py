# 8 GPUs x 128 images, 300 epochs: the authors' recipe.
_base_ = "../_base_/recipes/van_300e.py"

model = dict(backbone=dict(arch="van_b0", drop_path_rate=0.1))
