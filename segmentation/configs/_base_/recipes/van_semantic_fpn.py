# VAN's Semantic FPN (Visual-Attention-Network/VAN-Segmentation@8285fc7, configs/sem_fpn): 8 GPUs x 4 crops. A leaf
# gives model.backbone.drop_path_rate. The stages' LayerNorms keep the eps of the weights, 1e-6; the authors' have 1e-5.
_base_ = [
    "../models/semantic_fpn.py",
    "../data/ade20k.py",
    "../schedules/schedule_40k.py",
    "../runtime.py",
]

model = dict(
    # ImageNet's statistics, as in the authors' code, not those of the weights
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
train_dataloader = dict(batch_size=4)
