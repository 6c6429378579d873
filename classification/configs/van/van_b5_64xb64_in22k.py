# 64 GPUs x 64 images, two batches per step: the authors' recipe.
_base_ = "../_base_/recipes/van_in22k.py"

model = dict(backbone=dict(arch="van_b5"))
