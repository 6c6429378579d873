# ViG's and Pyramid ViG's recipe (huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/readme.md and train.py):
# 8 GPUs x 128 images, 300 epochs, then 10 more at the lowest rate. An epoch shows a third of the images three times
# each. The authors train in fp16. Here --amp float16 does, and --amp in bfloat16.
_base_ = "augmented.py"

train_dataloader = dict(
    sampler=dict(_delete_=True, type="RepeatAugmentation", num_repeats=3),
    dataset=dict(transform=dict(interpolation="random")),
)
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.9)))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = dict(warmup=20, eta_min=1e-5)
train_cfg = dict(max_epochs=310)
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=4e-5, update_buffers=True),
    dict(type="RawMetricsHook"),
    dict(type="BuffersHook", take="first"),  # the authors do not average batch norm statistics over processes
]
