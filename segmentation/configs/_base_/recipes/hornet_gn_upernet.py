# HorNet's UPerNet with a gated convolution as its last one (raoyongming/HorNet@ac9e210,
# semantic_segmentation/configs/horfpn). No figures are published. A leaf gives the kind of filter.
_base_ = "hornet_upernet.py"

model = dict(decode_head=dict(type="GNUPerHead", order=2))
