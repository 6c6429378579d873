# VVT's Semantic FPN, "PVT setting" in the authors' table: the schedule of whai362/PVT@665f8ad, which VAN has too.
# The code was not released. No drop path is stated; the rate of the ImageNet training is taken.
_base_ = [
    "../models/semantic_fpn.py",
    "../data/ade20k.py",
    "../schedules/schedule_40k.py",
    "../runtime.py",
]

model = dict(backbone=dict(drop_path_rate=0.3))
train_dataloader = dict(batch_size=4)
