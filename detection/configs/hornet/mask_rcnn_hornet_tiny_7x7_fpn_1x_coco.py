# 8 GPUs x 2 images, 12 epochs, multi-scale. Ours, unpublished: raoyongming/HorNet@ac9e210 has this recipe for
# hornet_small_7x7. The drop path is that of Cascade Mask R-CNN.
_base_ = "../_base_/recipes/hornet_mask_rcnn_1x.py"

model = dict(backbone=dict(arch="hornet_tiny_7x7", drop_path_rate=0.4))
