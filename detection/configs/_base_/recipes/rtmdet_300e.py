# mmdetection's recipe of RTMDet-L (configs/rtmdet/rtmdet_l_8xb32-300e_coco.py): 8 GPUs x 32 images, 300 epochs,
# averaged weights, no mosaics in the last 20 epochs.
_base_ = ["../models/rtmdet.py", "../data/coco_detection_640.py", "../schedules/adamw_1x.py", "../runtime.py"]

optim_wrapper = dict(
    optimizer=dict(lr=0.004),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0002,
        begin=150,
        end=300,
        T_max=150,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_epochs=300, val_interval=10, dynamic_intervals=[(280, 1)])
default_hooks = dict(checkpoint=dict(interval=10))
custom_hooks = [
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0002, update_buffers=True, priority=49),
    dict(type="PipelineSwitchHook", switch_epoch=280, switch_pipeline=_base_.plain_pipeline),
]
