# Four short epochs for the demo.
_base_ = "../../_base_/schedules/adamw_300e.py"

optim_wrapper = dict(optimizer=dict(lr=3e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=60),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_epochs=4)
