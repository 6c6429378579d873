# 200 iterations for the demo.
_base_ = "../../_base_/schedules/adamw_1x.py"

optim_wrapper = dict(optimizer=dict(lr=8e-4), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=0, end=200),
]
randomness = dict(seed=0)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=200, val_interval=50)
