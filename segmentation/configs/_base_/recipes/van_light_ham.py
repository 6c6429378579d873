# VAN's Light-Ham (Visual-Attention-Network/VAN-Segmentation@2573491, configs/ham/hamnet_light_van_*): UPerNet's rates,
# 8 GPUs x 2 crops. The authors removed it later. A leaf gives model.backbone.drop_path_rate.
_base_ = [
    "../models/light_ham.py",
    "../data/ade20k.py",
    "../schedules/schedule_160k.py",
    "../runtime.py",
]

model = dict(
    # ImageNet's statistics, as in the authors' code, not those of the weights
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
