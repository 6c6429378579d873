# VAN's HamNet (Visual-Attention-Network/VAN-Segmentation@2573491, configs/ham/hamnet_van_*): UPerNet's rates, 8 GPUs x
# 4 crops, stages 3 and 4 at stride 8. The authors removed it later. A leaf gives model.backbone.drop_path_rate.
_base_ = [
    "../models/hamnet.py",
    "../data/ade20k_unaligned.py",
    "../schedules/schedule_160k.py",
    "../runtime.py",
]

model = dict(
    # ImageNet's statistics, as in the authors' code, not those of the weights
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(output_stride=8),
)
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
