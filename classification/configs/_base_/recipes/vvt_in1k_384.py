# VVT from 224 to 384 pixels. The authors publish the accuracy and no recipe, so the numbers are ours: those of HorNet's
# step to 384 without its layer decay. The authors' trainer keeps a network in eval mode when it fine-tunes, which
# switches drop path off.
_base_ = "vvt_in1k.py"

input_size = 384
model = dict(backbone=dict(pretrained=True, drop_path_rate=0.0), mixup=None)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=5e-5, weight_decay=1e-8))
param_scheduler = dict(epochs=30, warmup=0, eta_min=1e-6, lag=0)
train_cfg = dict(max_epochs=30)
