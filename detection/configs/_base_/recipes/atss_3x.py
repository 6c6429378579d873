# ATSS, 8 GPUs x 2 images, 36 epochs, multi-scale.
_base_ = ["../models/atss_fpn.py", "../data/coco_detection_multiscale.py", "../schedules/adamw_3x.py", "../runtime.py"]
