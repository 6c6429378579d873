custom_imports = dict(imports=["segmentation"])
default_scope = "mmseg"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=8000, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    watchdog=dict(type="WatchdogHook", seconds=600),
    images=dict(type="MapImagesHook"),
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
env_cfg = dict(
    cudnn_benchmark=True,  # all crops have one shape
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="SegLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_level = "INFO"
load_from = None
resume = False

# Test-time augmentation (tools/test.py --tta). The base of the data sets the scales.
tta_model = dict(type="SegTTAModel")
