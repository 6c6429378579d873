# ade20k.py with test images of any size: their sides are not rounded to multiples of 32.
_base_ = "ade20k.py"

val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(2048, 512), keep_ratio=True),
            dict(type="LoadMask"),
            dict(type="PackSegInputs"),
        ]
    )
)
tta_pipeline = _base_.tta_pipeline
del tta_pipeline[1].transforms[1]
