# 8 GPUs x 2 images, 50 epochs, 100 queries, large-scale jitter. VAN paper (arXiv 2202.09741), without code.
_base_ = "../_base_/recipes/van_mask2former_panoptic.py"

model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1))
