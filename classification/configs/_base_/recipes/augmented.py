# What the recipes have in common: label smoothing, Mixup or CutMix of every batch, each half of the time, RandAugment,
# colour jitter and random erasing. A recipe adds rates, sampling and interpolation.
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
train_dataloader = dict(dataset=dict(transform=dict(auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4)))
