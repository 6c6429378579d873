# 8 GPUs x 128 images: the authors' recipe, which they state for the small size.
_base_ = "../_base_/recipes/vig_in1k.py"

model = dict(backbone=dict(arch="pvig_base", drop_path_rate=0.1))
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.95)))
