# Images without labels, in any tree below data_root. Two large and four small crops of each image.
# `train_dataloader.dataset.crops.small.number=0` leaves out the small crops. An image that is unreadable, or smaller
# than the smallest crops, is skipped, as long as max_unreadable, a share of all images, allows it.
data_root = "data/images"

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        type="UnlabelledImages",
        max_unreadable=0.001,
        crops=dict(
            large=dict(
                number=2,
                input_size=224,
                scale=(0.25, 1.0),
                color_jitter=0.4,
                color_jitter_prob=0.8,
                grayscale_prob=0.2,
                gaussian_blur_prob=0.5,
            ),
            small=dict(
                number=4,
                input_size=96,
                scale=(0.05, 0.25),
                color_jitter=0.4,
                color_jitter_prob=0.8,
                grayscale_prob=0.2,
                gaussian_blur_prob=0.5,
            ),
        ),
    ),
)
