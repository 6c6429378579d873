# The real VAN-B0 with a slim head on the demo's scenes of digits, about two minutes on one CPU core. Start it from the
# demo's classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "../_base_/semantic_fpn.py",
    "../_base_/ade20k.py",
    "../_base_/schedule_40k.py",
    "../_base_/runtime.py",
]

data_root = "data/demo/ade"
classes = ["background", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
model = dict(
    data_preprocessor=dict(size=(128, 128), mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(arch="van_b0", pretrained=None),
    neck=dict(in_channels=[32, 64, 160, 256], out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64),
)

load = dict(type="LoadImageFromFile")
size = dict(type="Resize", scale=(128, 128), keep_ratio=True)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    # No mirroring: a mirrored 2 is no digit.
    dataset=dict(
        pipeline=[load, dict(type="LoadMask"), size, dict(type="PhotoMetricDistortion"), dict(type="PackSegInputs")]
    ),
)
val_dataloader = dict(
    batch_size=4, num_workers=1, dataset=dict(pipeline=[load, size, dict(type="LoadMask"), dict(type="PackSegInputs")])
)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=200),
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
log_processor = dict(window_size=20)
tta_pipeline = [
    load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (96, 128, 160)],
            [dict(type="LoadMask")],
            [dict(type="PackSegInputs")],
        ],
    ),
]
