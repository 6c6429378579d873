"""The hooks that every run gets beside those of its config."""

from mmengine.config import Config, ConfigDict

from ziggurat.engine.tasks import task_for

MM_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")  # used by default


def add_hooks(cfg: Config) -> None:
    """Replaces mmengine's checkpoint hook by ours, and adds our other hooks."""
    if cfg.get("default_hooks") is None:
        cfg.default_hooks = ConfigDict()
    default = cfg.default_hooks
    for name in [name for name, hook in default.items() if hook is None and name not in MM_HOOKS]:
        del default[name]  # mmengine knows None for hooks of its own alone
    saving = default.get("checkpoint", dict(interval=1))
    if saving is not None and saving.get("type", "CheckpointHook") == "CheckpointHook":
        default.checkpoint = dict(saving, type="SafeCheckpointHook")
    custom = list(cfg.get("custom_hooks") or [])
    given = [*custom, *default.values()]
    ours = {
        "SeedHook": {},
        "GradientsHook": {},
        "NonFiniteHook": {},
        "StopHook": {},
        "BuffersHook": {},
        "SummaryHook": {},
        "UnreadableHook": {},
        "WatchdogHook": {},
        "ProgressHook": dict(
            interval=(default.get("logger") or {}).get("interval", 50), metrics=task_for(cfg).main_metrics
        ),
    }
    for name, arguments in ours.items():
        if not any(isinstance(hook, dict) and hook.get("type") == name for hook in given):
            custom.append(dict(arguments, type=name))
    cfg.custom_hooks = custom
