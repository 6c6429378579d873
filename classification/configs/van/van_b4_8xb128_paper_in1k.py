# 8 GPUs x 128 images: the recipe of the paper. Its drop path is not stated; mmpretrain's model has 0.2.
_base_ = "../_base_/recipes/van_in1k_paper.py"

model = dict(backbone=dict(arch="van_b4", drop_path_rate=0.2))
