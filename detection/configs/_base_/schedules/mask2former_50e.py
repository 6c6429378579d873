# Mask2Former's 50 epochs of COCO: 368,750 iterations of AdamW, 8 GPUs x 2 images. The backbone learns at a tenth of the
# rate, and embeddings and norms get no weight decay, as in Mask2Former's runs with Swin. Of several parts of a name the
# longest counts, so the norms' parts count before "backbone".
norms = [f".{norm}.{part}" for norm in ("norm", "norm1", "norm2") for part in ("weight", "bias")]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
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
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=368750, milestones=[327778, 355092], gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=368750, val_interval=5000, dynamic_intervals=[(365001, 368750)])
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
sync_bn = "torch"
del norms
