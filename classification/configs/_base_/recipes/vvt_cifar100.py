# VVT on CIFAR-100 (OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f, classification/cifar_node_submit.sh): the recipe of
# ImageNet-1K from random weights, images enlarged to 224 pixels. The authors state neither the size of the network nor
# the number of images per step.
_base_ = "vvt_in1k.py"

data_root = "data/cifar-100-python"
data_format = "cifar"
model = dict(num_classes=100)
