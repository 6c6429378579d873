# VVT's recipe (OpenNLPLab/Vicinity-Vision-Transformer@2c49e0f, classification/main.py): a rate of 5e-4 for 512 images,
# scaled to the real number per step, which the authors do not state. An epoch shows a third of the images three times
# each. A leaf gives drop_path_rate and the limit of the gradient's norm.
#
# The authors train in fp16. Here --amp float16 does, and --amp in bfloat16.
_base_ = "augmented.py"

train_dataloader = dict(
    sampler=dict(_delete_=True, type="RepeatAugmentation", num_repeats=3),
    dataset=dict(transform=dict(interpolation="bicubic")),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = dict(eta_min=1e-5, lag=1)  # the authors step the schedule one epoch late
auto_scale_lr = dict(base_batch_size=512)
randomness = dict(seed=3407)
