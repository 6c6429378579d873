# VVT's recipe (OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f, classification/main.py), each image three times an
# epoch. The authors' rate is 5e-4 for 512 images per step. They do not state their number of images; 8 GPUs x 128 are
# taken. They train in fp16. Add --amp for bfloat16.
_base_ = "augmented_300e.py"

train_dataloader = dict(
    sampler=dict(_delete_=True, type="RepeatAugmentation", num_repeats=3),
    dataset=dict(transform=dict(interpolation="bicubic")),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=5, end=300, convert_to_iter_based=True),
]
randomness = dict(seed=3407)
