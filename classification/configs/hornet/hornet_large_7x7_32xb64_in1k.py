# 32 GPUs x 64 images, two batches per step: the recipe of HorNet-B, since none was published for this arch.
_base_ = "../_base_/recipes/hornet_in1k.py"

model = dict(backbone=dict(arch="hornet_large_7x7", drop_path_rate=0.5))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2, clip_grad=dict(max_norm=5.0))
