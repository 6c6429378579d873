# 8 GPUs x 128 images without labels, 100 epochs: a recipe of our own. The teacher is DINOv2's ViT-S.
_base_ = "../_base_/recipes/distill_100e.py"

model = dict(backbone=dict(arch="van_b0"), teacher=dict(name="vit_small_patch14_dinov2", input_size=224))
