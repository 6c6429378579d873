# The parts of the VAN recipe that belong to the model (Visual-Attention-Network/VAN-Classification, train.sh).
model = dict(
    type="Classifier",
    backbone=dict(type="VAN", arch="van_b0", drop_path_rate=0.1),
    num_classes=1000,
    label_smoothing=0.1,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode="batch"),
    data_preprocessor=dict(
        type="BatchPreprocessor",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        random_erasing=dict(probability=0.25, mode="pixel", max_count=1),
    ),
)
