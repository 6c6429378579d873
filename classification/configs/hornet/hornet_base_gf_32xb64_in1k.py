# 32 GPUs x 64 images, two batches per step: the authors' recipe.
_base_ = "../_base_/recipes/hornet_in1k.py"

model = dict(backbone=dict(arch="hornet_base_gf", drop_path_rate=0.5))
train_dataloader = dict(batch_size=64, dataset=dict(transform=dict(auto_augment="rand-m15-mstd0.5-inc1")))
optim_wrapper = dict(accumulative_counts=2, clip_grad=dict(max_norm=1.0))
