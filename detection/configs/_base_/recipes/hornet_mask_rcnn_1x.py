# HorNet's Mask R-CNN (raoyongming/HorNet@ac9e210, object_detection/configs/horfpn): 8 GPUs x 2 images, 12 epochs,
# multi-scale. No figures are published. A leaf gives model.backbone.drop_path_rate.
# The authors count layers of blocks up to 12, and six layers below the heads. So stage 4 learns faster than the heads.
_base_ = [
    "../models/mask_rcnn_fpn.py",
    "../data/coco_instance_multiscale.py",
    "../schedules/adamw_1x.py",
    "../runtime.py",
]

optim_wrapper = dict(
    constructor="ParamGroups",
    paramwise_cfg=dict(_delete_=True, layer_decay=0.95, num_layers=6, last_layer=12),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
