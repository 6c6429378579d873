# 8 GPUs x 2 images, 36 epochs, multi-scale. raoyongming/HorNet@ac9e210, object_detection/configs/hornet.
_base_ = [
    "../_base_/models/cascade_mask_rcnn_fpn.py",
    "../_base_/data/coco_instance_multiscale.py",
    "../_base_/schedules/adamw_3x.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="hornet_tiny_7x7", drop_path_rate=0.4))
optim_wrapper = dict(
    constructor="ParamGroups",
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.7, num_layers=12),
)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 500
