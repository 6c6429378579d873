# VVT's UPerNet, "Swin setting" in the authors' table: the schedule of open-mmlab/mmsegmentation@08e92e6, configs/swin.
# The code was not released. No drop path is stated; the rate of the ImageNet training is taken, which is Swin-T's too.
_base_ = [
    "../models/upernet.py",
    "../data/ade20k.py",
    "../schedules/schedule_160k.py",
    "../runtime.py",
]

model = dict(backbone=dict(drop_path_rate=0.3))
