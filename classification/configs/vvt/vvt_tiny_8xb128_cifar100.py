# 8 GPUs x 128 images: the authors' recipe. They do not state the number of images per step.
_base_ = "../_base_/recipes/vvt_cifar100.py"

model = dict(backbone=dict(arch="vvt_tiny", drop_path_rate=0.1))
