# Ours, unpublished. 8 GPUs x 32 images, 300 epochs at 640 pixels: mmdetection's recipe of RTMDet-L.
_base_ = "../_base_/recipes/rtmdet_300e.py"

model = dict(backbone=dict(arch="vig_small", drop_path_rate=0.1))
