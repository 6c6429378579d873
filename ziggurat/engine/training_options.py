"""Options of a training that a user gives as one word at a config's top level, such as ``ema=True``."""

from typing import Any

from backbones.errors import UserError, shown
from ziggurat.engine.tasks import TASKS

# The tasks that have an option. What an option does stands where it is carried out.
OPTIONS = {
    "ema": TASKS,
    "class_weight": TASKS,  # ziggurat.engine.class_weights
    "loss": TASKS,  # ziggurat.engine.loss_option
    "replaced_losses": TASKS,  # what the option loss has done
    "frozen_stages": TASKS,  # ziggurat.engine.freezing
    "early_stopping": TASKS,  # ziggurat.engine.early_stopping
    "oversample_thr": TASKS,  # ziggurat.engine.repeated
    "batch_size": TASKS,  # ziggurat.engine.auto_batch, as the one below
    "memory_budget": TASKS,
    "fit_anchors": ("detection",),  # detection.anchors
    "copy_paste": ("detection",),  # detection.training_data, as the two below
    "max_objects": ("detection",),
    "background": ("detection",),
    "legend": ("segmentation",),  # segmentation.own_data
}
MOMENTUM = 2e-4  # of averaged weights, as RTMDet and VAN have


def check_options_of_task(cfg: Any, task: str) -> None:
    """Raises UserError for an option that another task has, since the option would have no effect."""
    for name, tasks in OPTIONS.items():
        if cfg.get(name) is not None and task not in tasks:
            raise UserError(f"{name} is an option of {' and '.join(tasks)}, and this config is of {task}")


def average_weights(cfg: Any) -> None:
    """Carries out ``cfg.ema``, in place: the run's checkpoints and validations have averaged weights.

    The value is the share of the newest weights in the average after each step; True takes ``MOMENTUM``. The share
    begins at 1 and falls, so that short runs do not average their first weights. False takes an average out. None
    leaves the config's hooks as they are.

    Raises:
        UserError: the value is neither a bool nor a number between 0 and 1.
    """
    share = cfg.get("ema")
    if share is None:
        return
    if not isinstance(share, bool) and not (isinstance(share, int | float) and 0 < share < 1):
        raise UserError(f"ema={shown(share)}; allowed: True, False, or the newest weights' share, between 0 and 1")
    hooks = list(cfg.get("custom_hooks") or [])
    there = [hook for hook in hooks if hook.get("type") == "EMAHook"]
    if share is False:
        cfg.custom_hooks = [hook for hook in hooks if hook not in there and hook.get("type") != "RawMetricsHook"]
    elif there and share is not True:
        there[0]["momentum"] = share
    elif not there:
        momentum = MOMENTUM if share is True else share
        hook = dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=momentum, update_buffers=True)
        cfg.custom_hooks = [*hooks, hook]
