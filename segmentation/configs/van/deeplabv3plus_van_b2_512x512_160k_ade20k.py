# Ours, unpublished. 8 GPUs x 2 crops, 160,000 iterations, output stride 16: the rates of VAN's UPerNet.
_base_ = "../_base_/recipes/deeplabv3plus_160k.py"

model = dict(backbone=dict(arch="van_b2", drop_path_rate=0.1))
