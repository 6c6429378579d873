# HorNet's recipe (raoyongming/HorNet@ac9e210, TRAINING.md and main.py): 32 GPUs, 4096 images per step, 300 epochs,
# averaged weights. A leaf gives drop_path_rate, the images per GPU and the limit of the gradient's norm.
#
# The authors limit the norm after every batch that adds to a step, on the sum so far. Here it is limited once a step.
_base_ = "convnext.py"

custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=1e-4, update_buffers=True),
    dict(type="RawMetricsHook"),
]
