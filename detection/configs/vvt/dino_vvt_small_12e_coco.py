# Ours, unpublished. 8 GPUs x 2 images, 12 epochs, multi-scale: mmdetection's recipe of DINO.
_base_ = "../_base_/recipes/dino_12e.py"

model = dict(backbone=dict(arch="vvt_small", drop_path_rate=0.3))
