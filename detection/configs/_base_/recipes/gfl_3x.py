# GFL, 8 GPUs x 2 images, 36 epochs, multi-scale.
_base_ = ["../models/gfl_fpn.py", "../data/coco_detection_multiscale.py", "../schedules/adamw_3x.py", "../runtime.py"]
