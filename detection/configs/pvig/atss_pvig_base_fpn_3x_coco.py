# Ours, unpublished. 8 GPUs x 2 images, 36 epochs, multi-scale: VAN's recipe.
_base_ = "../_base_/recipes/atss_3x.py"

model = dict(backbone=dict(arch="pvig_base", drop_path_rate=0.1))
