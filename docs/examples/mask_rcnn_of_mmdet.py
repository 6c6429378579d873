# mmdetection's own Mask R-CNN with VAN-B2 in the place of ResNet-50. Runs in mmdetection's tools as in this project's.
_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
custom_imports = dict(imports=["detection"])

model = dict(
    # What the weights were trained with. RGB, as in the config inherited from.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    # Without _delete_ the keys of ResNet-50 (depth, norm_cfg, ...) would be merged in.
    backbone=dict(_delete_=True, type="VAN", arch="van_b2", pretrained="van_b2.in1k", out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[64, 128, 320, 512]),  # the channels of the four maps
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-4, weight_decay=0.05))
