# 8 GPUs x 4 crops, 160,000 iterations: VAN-Segmentation, configs/upernet. Published results are multi-scale (--tta).
# The authors' config has 32 images a step, the paper says 16.
_base_ = "../_base_/recipes/van_upernet.py"

model = dict(backbone=dict(arch="van_b4", drop_path_rate=0.4))
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
