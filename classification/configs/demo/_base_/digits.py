# The demo's single digits, about as large as in the scenes of the other tasks. They are upright and must stay legible:
# no flips, RandAugment or erasing.
_base_ = "../../_base_/data/imagenet.py"

data_root = "data/demo/digits"
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        in_memory=True,
        transform=dict(_delete_=True, is_training=True, input_size=48, scale=(0.85, 1.0), ratio=(0.9, 1.1), hflip=0.0),
    ),
)
val_dataloader = dict(
    batch_size=120,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(in_memory=True, transform=dict(input_size=48, crop_pct=1.0)),
)
