custom_imports = dict(imports=["detection"])
default_scope = "mmdet"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    watchdog=dict(type="WatchdogHook", seconds=600),
    images=dict(type="ObjectImagesHook"),
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
env_cfg = dict(
    cudnn_benchmark=False,  # COCO images have many shapes; a search of kernels for each does not pay
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_level = "INFO"
load_from = None
resume = False

# Test-time augmentation (tools/test.py --tta). The base of the data sets the scales.
tta_model = dict(type="InstanceTTA", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100))
