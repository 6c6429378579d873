# HorNet's Cascade Mask R-CNN (raoyongming/HorNet@ac9e210, object_detection/configs/hornet): 8 GPUs x 2 images,
# 36 epochs, multi-scale, 12 groups of layers, each of which learns at 0.7 times the rate of the next. A leaf gives
# model.backbone.drop_path_rate.
_base_ = [
    "../models/cascade_mask_rcnn_fpn.py",
    "../data/coco_instance_multiscale.py",
    "../schedules/adamw_3x.py",
    "../runtime.py",
]

optim_wrapper = dict(
    constructor="ParamGroups",
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.7, num_layers=12),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
