# VAN's recipe (Visual-Attention-Network/VAN-Classification@e19779b, train.sh): 8 GPUs x 128 images, 300 epochs, then 10
# more at the lowest rate.
_base_ = "augmented.py"

train_dataloader = dict(dataset=dict(transform=dict(interpolation="random")))
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.9)))
train_cfg = dict(max_epochs=310)
