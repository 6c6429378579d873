# Semantic FPN, 8 GPUs x 4 crops, 40,000 iterations.
_base_ = ["../models/semantic_fpn.py", "../data/ade20k.py", "../schedules/schedule_40k.py", "../runtime.py"]

train_dataloader = dict(batch_size=4)
