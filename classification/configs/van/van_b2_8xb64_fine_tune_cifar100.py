# 8 GPUs x 64 images, 30 epochs: ours, unpublished. CIFAR-100's images are enlarged to 224 pixels.
# Any of the 27 archs by model.backbone.arch, any data set by data_root and data_format.
_base_ = "../_base_/recipes/fine_tune.py"

data_root = "data/cifar-100-python"
data_format = "cifar"
model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1), num_classes=100)
