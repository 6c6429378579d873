# Mask R-CNN, 8 GPUs x 2 images, 12 epochs.
_base_ = ["../models/mask_rcnn_fpn.py", "../data/coco_instance.py", "../schedules/adamw_1x.py", "../runtime.py"]
