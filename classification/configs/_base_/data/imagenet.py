# ImageNet's layout: data_root/{train,val}/CLASS/*. For your own images set data_root=FOLDER (in a config, or with
# --cfg-options). Classes and num_classes follow the folders of train. `classes=["cat", "dog"]` takes these folders
# alone, in this order. Recipes add augmentation beyond crops and mirroring.
#
# data_format names another layout: "ilsvrc" (a flat validation folder with its label file), "csv", "cifar", "shards" or
# "hub". None keeps the types that are written here. An unreadable training image is skipped, as long as max_unreadable,
# a share of all images, allows it.
data_root = "data/imagenet"
data_format = None
classes = None
input_size = None  # pixels of the crops in training and testing, for all transforms at once

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="ImageFolder",
        folder="train",
        max_unreadable=0.001,
        transform=dict(is_training=True, input_size=224, mean="weights"),  # RandAugment fills with the mean
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="ImageFolder",
        folder="val",
        transform=dict(is_training=False, input_size=224, crop_pct=0.875),
    ),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
