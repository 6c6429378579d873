# VAN's recipe (Visual-Attention-Network/VAN-Classification@e19779b, train.sh), 8 GPUs x 128 images. The authors' 10
# further epochs at the lowest rate are left out. The paper differs: lr 5e-4, and an averaged copy.
_base_ = "augmented_300e.py"

train_dataloader = dict(dataset=dict(transform=dict(interpolation="random")))
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=0.9)))
