# 16 GPUs x 32 images: the authors' recipe.
_base_ = "../_base_/recipes/van_in22k_to_in1k.py"

model = dict(backbone=dict(arch="van_b6", drop_path_rate=0.3))
