# HorNet's UPerNet (raoyongming/HorNet@ac9e210, semantic_segmentation/configs/hornet): 8 GPUs x 2 crops, each stage
# learns at 0.9 times the rate of the next, tests in windows. A leaf gives model.backbone.drop_path_rate.
_base_ = [
    "../models/upernet.py",
    "../data/ade20k_unaligned.py",
    "../schedules/schedule_160k.py",
    "../runtime.py",
]

model = dict(test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)))
optim_wrapper = dict(
    constructor="ParamGroups",
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.9, num_layers=12, decay_type="stage_wise"),
)
