# 8 GPUs x 2 crops, 160,000 iterations. Figures of vvt_small are published in "Swin's setting", without code.
_base_ = "../_base_/recipes/vvt_upernet.py"

model = dict(backbone=dict(arch="vvt_small"))
