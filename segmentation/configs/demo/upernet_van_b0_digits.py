# The real VAN-B0 with a slim head on the demo's scenes of digits, two to three minutes on one CPU core. The demo starts
# it from its own classifier with --cfg-options model.backbone.pretrained=CHECKPOINT.
_base_ = [
    "../_base_/upernet.py",
    "../_base_/ade20k.py",
    "../_base_/schedule_160k.py",
    "../_base_/runtime.py",
]

data_root = "data/demo/ade"
metainfo = dict(
    classes=["background", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    palette=[
        [28, 30, 36],
        [242, 82, 61],
        [61, 92, 242],
        [145, 242, 61],
        [242, 61, 198],
        [61, 242, 234],
        [242, 181, 61],
        [128, 61, 242],
        [61, 242, 75],
        [242, 61, 100],
        [61, 153, 242],
    ],
)
# Nine pixels in ten are background; told apart are the digits.
loss_decode = dict(class_weight=[0.2] + [1.0] * 10)
model = dict(
    data_preprocessor=dict(size=(128, 128), mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(arch="van_b0", pretrained=None),
    # The last map has 4 x 4 positions here, too few for the usual pooling.
    decode_head=dict(in_channels=[32, 64, 160, 256], channels=64, pool_scales=(2, 4), loss_decode=loss_decode),
    auxiliary_head=dict(in_channels=160, channels=64, loss_decode=loss_decode),
)

load = dict(type="LoadImageFromFile")
size = dict(type="Resize", scale=(128, 128), keep_ratio=True)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    # No mirroring: a mirrored 2 is no digit.
    dataset=dict(metainfo=metainfo, pipeline=[load, dict(type="LoadMask"), size, dict(type="PackSegInputs")]),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(metainfo=metainfo, pipeline=[load, size, dict(type="LoadMask"), dict(type="PackSegInputs")]),
)
optim_wrapper = dict(optimizer=dict(lr=2.5e-3, weight_decay=0.05), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=500),
]
randomness = dict(seed=0)
train_cfg = dict(max_iters=500, val_interval=125)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500))
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
