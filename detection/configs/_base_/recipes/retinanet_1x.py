# RetinaNet, 8 GPUs x 2 images, 12 epochs.
_base_ = ["../models/retinanet_fpn.py", "../data/coco_detection.py", "../schedules/adamw_1x.py", "../runtime.py"]
