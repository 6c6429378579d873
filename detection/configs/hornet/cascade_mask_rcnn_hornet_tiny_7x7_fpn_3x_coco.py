# 8 GPUs x 2 images, 36 epochs, multi-scale. raoyongming/HorNet@ac9e210, object_detection/configs/hornet.
_base_ = [
    "../_base_/models/cascade_mask_rcnn_fpn.py",
    "../_base_/data/coco_instance_multiscale.py",
    "../_base_/schedules/adamw_3x_layer_decay.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="hornet_tiny_7x7", drop_path_rate=0.4))
