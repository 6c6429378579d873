# Ours, unpublished. 8 GPUs x 2 images, 12 epochs: VAN's recipe.
_base_ = "../_base_/recipes/mask_rcnn_1x.py"

model = dict(backbone=dict(arch="vig_base", drop_path_rate=0.1))
