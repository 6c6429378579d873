# 8 GPUs x 2 crops, 160,000 iterations: VAN-Segmentation, configs/upernet. Published results are multi-scale (--tta).
_base_ = "../_base_/recipes/van_upernet.py"

model = dict(backbone=dict(arch="van_b3", drop_path_rate=0.3))
