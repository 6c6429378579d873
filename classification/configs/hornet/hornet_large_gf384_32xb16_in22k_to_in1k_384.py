# 32 GPUs x 16 images: the authors' recipe.
_base_ = "../_base_/recipes/hornet_in22k_to_in1k_384.py"

model = dict(backbone=dict(arch="hornet_large_gf384"))
