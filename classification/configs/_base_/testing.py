# Testing without a training's config: classification/published.py adds the arch, the weights and their preprocessing.
_base_ = ["models/classifier.py", "runtime.py"]

data_root = "data/imagenet"
classes = None

test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="ImageFolder", folder="val", transform=dict(is_training=False)),
)
test_evaluator = [dict(type="Accuracy", topk=(1, 5)), dict(type="CalibrationError")]
test_cfg = dict(type="TestLoop")
