# DeepLabV3+ with UPerNet's rates: 8 GPUs x 2 crops, 160,000 iterations.
_base_ = ["../models/deeplabv3plus.py", "../data/ade20k.py", "../schedules/schedule_160k.py", "../runtime.py"]
