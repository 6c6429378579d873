# 32 GPUs x 16 images: the authors' recipe.
_base_ = "../_base_/recipes/van_in22k_to_in1k_384.py"

model = dict(backbone=dict(arch="van_b5", drop_path_rate=0.2))
