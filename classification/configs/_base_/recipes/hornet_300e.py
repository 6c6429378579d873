# HorNet's recipe (raoyongming/HorNet@ac9e210, TRAINING.md and main.py): 32 GPUs x 128 images. Averaged
# weights are evaluated and saved. A leaf gives drop_path_rate and the limit of the gradient's norm.
_base_ = "augmented_300e.py"

train_dataloader = dict(dataset=dict(transform=dict(interpolation="bicubic")))
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=20, end=300, convert_to_iter_based=True),
]
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=1e-4)]
randomness = dict(seed=0)
