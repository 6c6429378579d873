# AdamW over 300 epochs, at 1024 images per step: a warm-up of five epochs, then a cosine. With another number of images
# the learning rate is scaled in proportion; auto_scale_lr.enable=False keeps it.
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ParamGroups",  # no weight decay of norms, biases and layer scales
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
)
param_scheduler = dict(type="EpochCosineLR", epochs=300, warmup=5, warmup_lr=1e-6, eta_min=1e-6)
auto_scale_lr = dict(enable=True, base_batch_size=1024)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
randomness = dict(seed=42, diff_rank_seed=True)
