# Ours, unpublished. 8 GPUs x 2 crops, 160,000 iterations: VAN's recipe.
_base_ = "../_base_/recipes/upernet_160k.py"

model = dict(backbone=dict(arch="vig_base", drop_path_rate=0.1))
