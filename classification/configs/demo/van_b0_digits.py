# The real VAN-B0 on the demo's digits, two to three minutes on two CPU cores. They are shown about as large as in the
# scenes of the other tasks, which start from these weights. Digits are upright and must stay legible: no flips,
# RandAugment, erasing or mixing.
_base_ = [
    "../_base_/van.py",
    "../_base_/imagenet.py",
    "../_base_/adamw_300e.py",
    "../_base_/runtime.py",
]

data_root = "data/demo/digits"
model = dict(backbone=dict(drop_path_rate=0.0), num_classes=10, mixup=None, data_preprocessor=dict(random_erasing=None))
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        in_memory=True,
        transform=dict(_delete_=True, is_training=True, input_size=48, scale=(0.85, 1.0), ratio=(0.9, 1.1), hflip=0.0),
    ),
)
val_dataloader = dict(
    batch_size=120,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(in_memory=True, transform=dict(input_size=48, crop_pct=1.0)),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=60),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=4)
default_hooks = dict(logger=dict(interval=20))
