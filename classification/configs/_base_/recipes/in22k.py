# ImageNet-22K for 90 epochs, which VAN's and HorNet's authors have in common. There is no validation set; a folder
# data_root/val is used with val_dataloader, val_cfg and val_evaluator of _base_/data/imagenet.py.
_base_ = "convnext.py"

data_root = "data/imagenet22k"
param_scheduler = dict(epochs=90, warmup_epochs=5)
train_cfg = dict(max_epochs=90)
val_dataloader = None
val_cfg = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(save_best=None))
