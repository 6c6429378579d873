# Cascade Mask R-CNN, 8 GPUs x 2 images, 36 epochs, multi-scale.
_base_ = [
    "../models/cascade_mask_rcnn_fpn.py",
    "../data/coco_instance_multiscale.py",
    "../schedules/adamw_3x.py",
    "../runtime.py",
]
