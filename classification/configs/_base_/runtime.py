custom_imports = dict(imports=["classification"])
default_scope = "mmengine"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3, save_best="top1"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    watchdog=dict(type="WatchdogHook", seconds=600),
    unreadable=dict(type="UnreadableHook"),
    images=dict(type="ImagesHook"),
)
# `ema = True` in a config tests and saves an averaged copy of the weights in place of the trained ones.
log_processor = dict(window_size=50, by_epoch=True)
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))  # inputs have one shape
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
log_level = "INFO"
load_from = None
resume = False
