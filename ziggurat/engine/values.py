"""Values of a config that loaders, loops, optimiser wrappers and hooks need: checked before anything is built."""

from typing import Any

from backbones.checks import as_int, check_int
from backbones.errors import UserError, shown
from ziggurat.engine.auto_batch import AUTO
from ziggurat.engine.splits import SPLITS

LEAST: dict[str, dict[str, int]] = {
    f"{split}_dataloader": {"batch_size": 1, "num_workers": 0, "prefetch_factor": 1} for split in SPLITS
}
LEAST |= {f"{split}_dataloader.dataset.filter_cfg": {"min_size": 0} for split in SPLITS}
LEAST["train_cfg"] = {"max_epochs": 1, "max_iters": 1, "val_interval": 1}
LEAST["optim_wrapper"] = {"accumulative_counts": 1}
LEAST["randomness"] = {"seed": 0}
LEAST["default_hooks.checkpoint"] = {"interval": 1, "max_keep_ckpts": 1}
LEAST["default_hooks.logger"] = {"interval": 1}
LEAST["log_processor"] = {"window_size": 1}
MOST = {"seed": 2**32 - 1}  # NumPy's largest
# What stands for: not set.
OFF = {"prefetch_factor": None, "max_epochs": None, "max_iters": None, "seed": None}
OFF |= {"interval": -1, "max_keep_ckpts": -1}
SYNC_BN = (None, False, "torch", "mmcv")


def check_values(cfg: Any) -> None:
    """Checks the numbers that ``LEAST`` lists, each with its least value, the limits of gradients, and ``sync_bn``.

    A value that the config leaves out is right.

    Raises:
        UserError: a value is of another kind, or is too small or large. The message has the option as one would type
            it.
    """
    check_clipping(cfg)
    if cfg.get("sync_bn") not in SYNC_BN:
        raise UserError(f"sync_bn is {shown(cfg.sync_bn)}; allowed: torch, mmcv, None")
    for part, least in LEAST.items():
        given = cfg
        for key in part.split("."):
            given = given.get(key) if hasattr(given, "get") else None
        for name, low in least.items() if hasattr(given, "get") else ():
            if (part, name) == ("train_dataloader", "batch_size") and name in given:
                check_batch_size(given[name])
                continue
            if name in given and not (name in OFF and given[name] == OFF[name]):
                check_int(f"{part}.{name}", given[name], low, MOST.get(name))


def check_batch_size(size: Any) -> None:
    """Raises UserError for a training batch that is neither ``"auto"`` nor a number of images."""
    if size != AUTO and (as_int(size) is None or size < 1):
        raise UserError(f"train_dataloader.batch_size is {shown(size)}; allowed: integers from 1 up, {AUTO}")


def check_clipping(cfg: Any) -> None:
    """Raises UserError for a limit of gradients that stops a training, or turns its steps round."""
    wrapper = cfg.get("optim_wrapper")
    given = wrapper.get("clip_grad") if hasattr(wrapper, "get") else None
    for name in ("max_norm", "clip_value") if hasattr(given, "get") else ():
        limit = given.get(name)
        number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if name in given and not (number and limit > 0):
            raise UserError(
                f"optim_wrapper.clip_grad.{name} is {shown(limit)}; allowed: numbers above 0, or "
                "optim_wrapper.clip_grad=None"
            )
