# Ours, unpublished. 8 GPUs x 2 crops, 160,000 iterations: mmsegmentation's recipe of Mask2Former.
_base_ = "../_base_/recipes/mask2former_160k.py"

model = dict(backbone=dict(arch="vvt_medium", drop_path_rate=0.3))
