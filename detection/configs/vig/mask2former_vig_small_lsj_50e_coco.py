# Ours, unpublished. 8 GPUs x 2 images, 50 epochs, large-scale jitter: mmdetection's recipe of Mask2Former.
_base_ = "../_base_/recipes/mask2former_instance.py"

model = dict(backbone=dict(arch="vig_small", drop_path_rate=0.1))
