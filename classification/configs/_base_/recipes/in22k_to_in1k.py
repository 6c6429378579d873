# 30 epochs on ImageNet-1K from weights of ImageNet-22K, 512 images per step, which VAN's and HorNet's authors have in
# common: no mixing of images, no warm-up, hardly any weight decay.
_base_ = "convnext.py"

model = dict(backbone=dict(pretrained=True), mixup=None)
optim_wrapper = dict(optimizer=dict(lr=5e-5, weight_decay=1e-8))
param_scheduler = dict(epochs=30, warmup_epochs=0)
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=30)
