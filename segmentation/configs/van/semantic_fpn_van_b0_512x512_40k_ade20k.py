# 8 GPUs x 4 crops, 40,000 iterations: VAN-Segmentation, configs/sem_fpn. Published results are single-scale.
_base_ = "../_base_/recipes/van_semantic_fpn.py"

model = dict(backbone=dict(arch="van_b0", drop_path_rate=0.2))
