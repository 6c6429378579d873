# The demo's scenes of digits at their own 128x128. No mirroring: a mirrored 2 is no digit.
_base_ = "../../_base_/data/ade20k.py"

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
load = dict(type="LoadImageFromFile")
size = dict(type="Resize", scale=(128, 128), keep_ratio=True)

data_root = "data/demo/ade"
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(metainfo=metainfo, pipeline=[load, dict(type="LoadMask"), size, dict(type="PackSegInputs")]),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(metainfo=metainfo, pipeline=[load, size, dict(type="LoadMask"), dict(type="PackSegInputs")]),
)
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
