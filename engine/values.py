"""Numbers of a config that loaders, loops and optimiser wrappers need: checked before anything is built."""

from typing import Any

from backbones.checks import check_int
from engine.splits import SPLITS

LEAST = {f"{split}_dataloader": {"batch_size": 1, "num_workers": 0, "prefetch_factor": 1} for split in SPLITS}
LEAST["train_cfg"] = {"max_epochs": 1, "max_iters": 1, "val_interval": 1}
LEAST["optim_wrapper"] = {"accumulative_counts": 1}
OFF = ("prefetch_factor", "max_epochs", "max_iters")  # None means: not set


def check_values(cfg: Any) -> None:
    """Checks the numbers that ``LEAST`` lists, each with its least value. A number that the config leaves out is right.

    Raises:
        UserError: a value is no integer, or is too small. The message has the option as one would type it.
    """
    for part, least in LEAST.items():
        given = cfg.get(part) or {}
        for name, low in least.items():
            if name in given and not (given[name] is None and name in OFF):
                check_int(f"{part}.{name}", given[name], low, None)
