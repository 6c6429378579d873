# UPerNet, 8 GPUs x 2 crops, 160,000 iterations.
_base_ = ["../models/upernet.py", "../data/ade20k.py", "../schedules/schedule_160k.py", "../runtime.py"]
