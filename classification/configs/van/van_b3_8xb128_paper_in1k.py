# 8 GPUs x 128 images: the recipe of the paper.
_base_ = "../_base_/recipes/van_in1k_paper.py"

model = dict(backbone=dict(arch="van_b3", drop_path_rate=0.2))
