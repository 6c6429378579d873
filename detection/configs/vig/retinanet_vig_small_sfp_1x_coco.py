# Ours, unpublished. 8 GPUs x 2 images, 12 epochs: VAN's recipe.
_base_ = "../_base_/recipes/retinanet_1x.py"

model = dict(backbone=dict(arch="vig_small", drop_path_rate=0.1))
