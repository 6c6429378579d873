# The same at 384 pixels (ImageNet-22k/finetune_384.sh): 32 GPUs x 16 images. Test images are resized to the square.
_base_ = "van_in22k_to_in1k.py"

input_size = 384
train_dataloader = dict(batch_size=16)
val_dataloader = dict(dataset=dict(transform=dict(crop_pct=1.0, crop_mode="squash")))
