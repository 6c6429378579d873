# A start for fine-tuning published weights on another data set. Ours, unpublished: the augmentation and weight decay of
# pretraining, a low rate that is lower still in early layers, and a new head. data_root and data_format name the data.
_base_ = "augmented.py"

model = dict(backbone=dict(pretrained=True), reset_head=True)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay=0.8))
param_scheduler = dict(epochs=30, warmup=3)
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=30)
