# 8 GPUs x 4 crops, 160,000 iterations: VAN-Segmentation@2573491, configs/ham.
# Published results are multi-scale (--tta).
_base_ = "../_base_/recipes/van_hamnet.py"

model = dict(backbone=dict(arch="van_b1", drop_path_rate=0.1))
