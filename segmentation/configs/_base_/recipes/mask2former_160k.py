# mmsegmentation's recipe of Mask2Former (configs/mask2former, *_8xb2-160k_ade20k-512x512): 8 GPUs x 2 crops, 160,000
# iterations, a tenth of the rate for the backbone, no weight decay of norms. Short sides are 256 to 1024 pixels.
# Of several parts of a name the longest counts, so the norms' parts count before "backbone".
_base_ = ["../models/mask2former.py", "../data/ade20k.py", "../schedules/schedule_160k.py", "../runtime.py"]

norms = [f".{norm}.{part}" for norm in ("norm", "norm1", "norm2") for part in ("weight", "bias")]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadMask"),
            dict(
                type="RandomChoiceResize",
                scales=[int(51.2 * x) for x in range(5, 21)],
                resize_type="ResizeShortestEdge",
                max_size=2048,
            ),
            dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
        ]
    )
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys={
            "backbone": dict(lr_mult=0.1),
            "query_embed": dict(decay_mult=0.0),
            "query_feat": dict(decay_mult=0.0),
            "level_embed": dict(decay_mult=0.0),
            **{name: dict(lr_mult=0.1, decay_mult=0.0) for name in norms},
        },
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=160000)]
train_cfg = dict(val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
del norms
