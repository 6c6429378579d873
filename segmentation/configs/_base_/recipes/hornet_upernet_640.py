# The same for HorNet-L with weights of ImageNet-22K: crops of 640 pixels, each stage at 0.8 times the next one's rate.
_base_ = [
    "../models/upernet.py",
    "../data/ade20k_640.py",
    "../schedules/schedule_160k.py",
    "../runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(640, 640)),
    backbone=dict(drop_path_rate=0.4),
    test_cfg=dict(mode="slide", crop_size=(640, 640), stride=(426, 426)),
)
optim_wrapper = dict(
    constructor="ParamGroups",
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.8, num_layers=12, decay_type="stage_wise"),
)
