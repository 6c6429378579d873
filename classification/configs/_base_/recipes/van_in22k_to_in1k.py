# VAN from ImageNet-22K to ImageNet-1K (LGYoung/VAN-Classification@b3e3188, ImageNet-22k/finetune.sh): 16 GPUs x 32
# images, a new head with small weights.
_base_ = "in22k_to_in1k.py"

model = dict(reset_head=True, head_init_scale=0.001)
train_dataloader = dict(batch_size=32)
