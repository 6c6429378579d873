# 8 GPUs x 2 images, 50 epochs, from ImageNet-22K, 200 queries, large-scale jitter.
# VAN paper (arXiv 2202.09741), without code.
_base_ = "../_base_/recipes/van_mask2former_panoptic.py"

model = dict(
    backbone=dict(arch="van_b6", pretrained="van_b6.in22k", drop_path_rate=0.5), panoptic_head=dict(num_queries=200)
)
