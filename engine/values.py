"""Numbers of a config that loaders, loops, optimiser wrappers and hooks need: checked before anything is built."""

from typing import Any

from backbones.checks import check_int
from engine.splits import SPLITS

LEAST: dict[str, dict[str, int]] = {
    f"{split}_dataloader": {"batch_size": 1, "num_workers": 0, "prefetch_factor": 1} for split in SPLITS
}
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


def check_values(cfg: Any) -> None:
    """Checks the numbers that ``LEAST`` lists, each with its least value. A number that the config leaves out is right.

    Raises:
        UserError: a value is no integer, or is too small or large. The message has the option as one would type it.
    """
    for part, least in LEAST.items():
        given = cfg
        for key in part.split("."):
            given = given.get(key) if hasattr(given, "get") else None
        for name, low in least.items() if hasattr(given, "get") else ():
            if name in given and not (name in OFF and given[name] == OFF[name]):
                check_int(f"{part}.{name}", given[name], low, MOST.get(name))
