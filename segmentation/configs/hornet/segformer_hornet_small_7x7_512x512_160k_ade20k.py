# Ours, unpublished. 8 GPUs x 2 crops, 160,000 iterations: mmsegmentation's recipe of SegFormer.
_base_ = "../_base_/recipes/segformer_160k.py"

model = dict(backbone=dict(arch="hornet_small_7x7", drop_path_rate=0.3))
