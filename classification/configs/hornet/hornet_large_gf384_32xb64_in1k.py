# 32 GPUs x 64 images, two batches per step: the recipe of HorNet-B, since none was published for this arch.
# The filters of this arch are made for 384 pixels and are resized to each input.
_base_ = "../_base_/recipes/hornet_in1k.py"

model = dict(backbone=dict(arch="hornet_large_gf384", drop_path_rate=0.5))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2, clip_grad=dict(max_norm=1.0))
