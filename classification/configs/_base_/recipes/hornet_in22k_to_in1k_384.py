# HorNet from ImageNet-22K to ImageNet-1K at 384 pixels (raoyongming/HorNet@ac9e210, TRAINING.md and main.py): 32 GPUs x
# 16 images, layer decay 0.7 over 12 layers, averaged weights. The head keeps the rows of the 1000 classes. Test images
# are resized to the square.
_base_ = "in22k_to_in1k.py"

input_size = 384
model = dict(backbone=dict(drop_path_rate=0.4), class_map="imagenet1k")
train_dataloader = dict(batch_size=16)
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=1.0, crop_mode="squash")))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.7, num_layers=12), clip_grad=dict(max_norm=1.0))
custom_hooks = [
    dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=1e-4, update_buffers=True),
    dict(type="RawMetricsHook"),
]
