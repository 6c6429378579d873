# 8 GPUs x 2 images, 50 epochs, 100 queries, large-scale jitter: VAN paper (arXiv 2202.09741, Table 14), without code.
# mmdetection's Mask2Former fills the paper's gaps, and VAN's UPerNet gives the drop path.
_base_ = "../_base_/recipes/mask2former_panoptic.py"

model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1))
