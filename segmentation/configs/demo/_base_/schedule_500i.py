# 500 iterations for the demo.
_base_ = "../../_base_/schedules/schedule_160k.py"

optim_wrapper = dict(optimizer=dict(lr=2.5e-3, weight_decay=0.05), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=500),
]
randomness = dict(seed=0)
train_cfg = dict(max_iters=500, val_interval=125)
