# HorNet on ImageNet-22K (raoyongming/HorNet@ac9e210, TRAINING.md): 64 GPUs x 32 images, two batches per step. The head
# of the published weights has 10459 classes: ImageNet-21K-P and the 9 classes of ImageNet-1K that it lacks.
_base_ = "in22k.py"

model = dict(backbone=dict(drop_path_rate=0.2), num_classes=10459)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(weight_decay=0.1), accumulative_counts=2)
