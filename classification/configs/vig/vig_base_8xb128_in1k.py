# 8 GPUs x 128 images: the authors' recipe, which they state for the small size.
_base_ = "../_base_/recipes/vig_in1k.py"

model = dict(backbone=dict(arch="vig_base", drop_path_rate=0.1))
