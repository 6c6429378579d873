# Ours, unpublished. 8 GPUs x 2 images, 36 epochs, multi-scale: VAN's recipe.
_base_ = "../_base_/recipes/cascade_mask_rcnn_3x.py"

model = dict(backbone=dict(arch="vig_small", drop_path_rate=0.1))
