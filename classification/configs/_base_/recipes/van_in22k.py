# VAN on ImageNet-22K (LGYoung/VAN-Classification@b3e3188, ImageNet-22k/train.sh): 64 GPUs x 64 images, two batches per
# step. The paper says 8196 images per step, the script 8192.
_base_ = "in22k.py"

model = dict(
    backbone=dict(drop_path_rate=0.1),
    num_classes=21841,
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),  # VAN's other weights have 0.5
)
train_dataloader = dict(batch_size=64, dataset=dict(transform=dict(mean=[0.485, 0.456, 0.406])))
optim_wrapper = dict(accumulative_counts=2)
auto_scale_lr = dict(base_batch_size=8192)
