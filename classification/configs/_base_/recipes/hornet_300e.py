# HorNet's recipe (raoyongming/HorNet@ac9e210, TRAINING.md and main.py): 32 GPUs x 128 images. Averaged
# weights are evaluated and saved. A leaf gives drop_path_rate and the limit of the gradient's norm.
_base_ = [
    "../models/classifier.py",
    "../data/imagenet.py",
    "../schedules/adamw_300e.py",
    "../runtime.py",
]

model = dict(
    label_smoothing=0.1,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode="batch"),
    data_preprocessor=dict(random_erasing=dict(probability=0.25, mode="pixel", max_count=1)),
)
train_dataloader = dict(
    dataset=dict(transform=dict(auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, interpolation="bicubic"))
)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=20, end=300, convert_to_iter_based=True),
]
custom_hooks = [dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=1e-4)]
randomness = dict(seed=0)
