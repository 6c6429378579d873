# mmdetection's recipe of DINO (configs/dino/dino-4scale_r50_8xb2-12e_coco.py): 8 GPUs x 2 images, 12 epochs,
# multi-scale, a tenth of the rate for the backbone.
_base_ = ["../models/dino.py", "../data/coco_detection_multiscale.py", "../schedules/adamw_1x.py", "../runtime.py"]

train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))
optim_wrapper = dict(
    optimizer=dict(weight_decay=1e-4),
    paramwise_cfg=dict(_delete_=True, custom_keys={"backbone": dict(lr_mult=0.1)}),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[11], gamma=0.1)]
