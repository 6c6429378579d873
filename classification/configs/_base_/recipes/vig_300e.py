# ViG's and Pyramid ViG's recipe (huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/readme.md and train.py):
# 8 GPUs x 128 images, each image three times an epoch. The 10 further epochs at the lowest rate are left out. The
# authors evaluate averaged and trained weights, and keep the better ones. Here the averaged weights are kept.
_base_ = "augmented_300e.py"

train_dataloader = dict(
    sampler=dict(_delete_=True, type="RepeatAugmentation", num_repeats=3),
    dataset=dict(transform=dict(interpolation="random")),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.0005, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=20, end=300, convert_to_iter_based=True),
]
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=4e-5)]
