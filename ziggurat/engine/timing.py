"""Seconds of calls, and how many times faster one is than another."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done what it was told. A CPU has always done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds on the clock that a call takes, the GPU's work included."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def cpu_seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds that all threads of this process compute in a call. Other work of the machine hardly changes them."""
    synchronize(device)
    start = time.process_time()
    call()
    synchronize(device)
    return time.process_time() - start


def in_turn(timers: dict[str, Callable[[], float]], repeats: int) -> dict[str, dict[str, float]]:
    """Median milliseconds (``ms``) of each, and how many times faster than the first it is (``ratio``).

    The ratio is the median over pairs of calls.

    Args:
        timers: functions that return the seconds of one call.
        repeats: counted calls of each, after one call that does not count.
    """
    times = [{name: timer() for name, timer in timers.items()} for _ in range(repeats + 1)][1:]
    first = next(iter(timers))
    return {
        name: {
            "ms": round(1e3 * statistics.median(t[name] for t in times), 2),
            "ratio": round(statistics.median(t[first] / t[name] for t in times), 2),
        }
        for name in timers
    }
