# VAN's recipe as the paper has it (arXiv 2202.09741): half the learning rate of the official code, and averaged
# weights. The paper does not state how fast they follow; the default of the official code is taken.
_base_ = "van_in1k.py"

optim_wrapper = dict(optimizer=dict(lr=5e-4))
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=2e-4, update_buffers=True),
    dict(type="RawMetricsHook"),
]
