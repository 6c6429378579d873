# Ours, unpublished. 8 GPUs x 4 crops, 40,000 iterations: VAN's recipe.
_base_ = "../_base_/recipes/semantic_fpn_40k.py"

model = dict(backbone=dict(arch="vig_base", drop_path_rate=0.1))
