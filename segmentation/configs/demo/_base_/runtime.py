# A checkpoint at the end of the demo, and a line of the log every 20 iterations.
_base_ = "../../_base_/runtime.py"

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500))
log_processor = dict(window_size=20)
