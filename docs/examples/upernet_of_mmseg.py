# mmsegmentation's own UPerNet with VAN-B2 in the place of ResNet-50. This file lies at the root of its repository.
_base_ = "configs/upernet/upernet_r50_4xb4-80k_ade20k-512x512.py"
custom_imports = dict(imports=["segmentation"])

model = dict(
    pretrained=None,  # of the ResNet
    # What the weights were trained with. RGB, as in the config inherited from.
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    # Without _delete_ the keys of ResNet-50 (depth, norm_cfg, ...) would be merged in.
    backbone=dict(_delete_=True, type="VAN", arch="van_b2", pretrained="van_b2.in1k", out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[64, 128, 320, 512]),  # the channels of the four maps
    auxiliary_head=dict(in_channels=320),  # of the third map
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=6e-5, weight_decay=0.01))
