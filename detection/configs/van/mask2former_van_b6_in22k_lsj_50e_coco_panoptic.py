# 8 GPUs x 2 images, 50 epochs, from ImageNet-22K, 200 queries, large-scale jitter:
# VAN paper (arXiv 2202.09741, Table 14), without code.
# mmdetection's Mask2Former fills the paper's gaps, and VAN's UPerNet gives the drop path.
_base_ = "../_base_/recipes/mask2former_panoptic.py"

model = dict(
    backbone=dict(arch="van_b6", pretrained="van_b6.in22k", drop_path_rate=0.5), panoptic_head=dict(num_queries=200)
)
