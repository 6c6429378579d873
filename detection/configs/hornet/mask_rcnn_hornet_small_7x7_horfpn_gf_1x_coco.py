# 8 GPUs x 2 images, 12 epochs, multi-scale. raoyongming/HorNet@ac9e210, object_detection/configs/horfpn.
_base_ = "../_base_/recipes/hornet_mask_rcnn_1x.py"

model = dict(
    backbone=dict(arch="hornet_small_7x7", drop_path_rate=0.6),
    neck=dict(type="HorFPN", order=2, filter_size=(32, 17)),
)
