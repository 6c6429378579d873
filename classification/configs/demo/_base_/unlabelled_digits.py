# The demo's single digits without their labels, as one upright crop each.
_base_ = "../../_base_/data/unlabelled.py"

data_root = "data/demo/digits/train"
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        crops=dict(
            _delete_=True,
            large=dict(number=1, input_size=48, scale=(0.5, 1.0), ratio=(0.9, 1.1), hflip=0.0),
        )
    ),
)
