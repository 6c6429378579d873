# 8 GPUs x 128 images: the paper's recipe of the smaller sizes, since none was published for this arch.
_base_ = "../_base_/recipes/van_in1k_paper.py"

model = dict(backbone=dict(arch="van_b6", drop_path_rate=0.3))
