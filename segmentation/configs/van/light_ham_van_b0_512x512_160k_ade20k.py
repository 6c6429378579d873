# 8 GPUs x 2 crops, 160,000 iterations: VAN-Segmentation@2573491, configs/ham.
# Published results are multi-scale (--tta).
_base_ = "../_base_/recipes/van_light_ham.py"

model = dict(backbone=dict(arch="van_b0", drop_path_rate=0.1), decode_head=dict(ham_channels=480))
