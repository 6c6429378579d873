# 8 GPUs x 128 images: the recipe of the authors' code.
_base_ = "../_base_/recipes/van_in1k.py"

model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1))
