# 300 epochs of AdamW at 1024 images per step: five of warm-up, then a cosine.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ParamGroups",  # no weight decay of norms, biases and layer scales
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=True, begin=5, end=300, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
randomness = dict(seed=42, diff_rank_seed=True)
