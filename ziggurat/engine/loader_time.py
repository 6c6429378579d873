"""How long a training waits for its data loader, and what would shorten the wait."""

import os
from typing import Any

from mmengine.dist import get_world_size

from backbones.errors import arguments_of

SHARE = 0.2  # of the step time; a loader that takes more holds the training up
PATIENCE = 10.0  # seconds of waiting before anything is said
SMALL = 50_000  # images that fit into the memory of most machines


def step_times(runner: Any, window: int) -> tuple[float, float] | None:
    """Mean seconds of an iteration, and of its wait for the loader, over the last ``window`` iterations.

    mmengine's IterTimerHook measures both. None without it.
    """
    scalars = runner.message_hub.log_scalars
    if not {"train/time", "train/data_time"} <= set(scalars):
        return None
    return scalars["train/time"].mean(window), scalars["train/data_time"].mean(window)


def is_held_up(step: float, loader: float, iterations: int) -> bool:
    """Whether a training waits much for its loader.

    Args:
        step, loader: seconds of an iteration, and of its wait for the loader.
        iterations: number of iterations that the seconds are the mean of.
    """
    return loader > SHARE * step and loader * iterations > PATIENCE


def cures(loader: Any) -> list[str]:
    """What may make a data loader faster, as options of a config, the simplest first."""
    dataset, workers, cores = loader.dataset, loader.num_workers, cores_here() // local_processes()
    found = []
    if workers < cores:
        found.append(f"train_dataloader.num_workers={cores} (now {workers})")
    if workers and not loader.persistent_workers:
        found.append("train_dataloader.persistent_workers=True")
    if (
        "in_memory" in arguments_of(type(dataset))
        and not getattr(dataset, "in_memory", False)
        and len(dataset) <= SMALL
    ):
        found.append("train_dataloader.dataset.in_memory=True")
    return found or ["images that are resized once, or stored on a faster disk"]


def cores_here() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_processes() -> int:
    """The processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or get_world_size())
