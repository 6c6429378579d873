# 8 GPUs x 4 crops, 40,000 iterations. Figures of vvt_large are published in "PVT's setting", without code.
_base_ = "../_base_/recipes/vvt_semantic_fpn.py"

model = dict(backbone=dict(arch="vvt_large"))
