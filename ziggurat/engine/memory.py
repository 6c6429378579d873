"""How much memory a computation takes at most: its tensors, or the whole process."""

import contextlib
import gc
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # written to CLEAR, makes Linux count VmHWM anew
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "CUDA out of memory")  # of PyTorch's errors


def peak_of_tensors(call: Callable[[], Any], device: torch.device) -> int:
    """The largest number of bytes in tensors at a time, beyond the tensors before the call."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with no_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


class PeakMemory:
    """The most memory that a model takes, from the making of this object on.

    On a GPU: bytes of tensors there, by PyTorch's allocator. On a CPU: resident memory of this process, so what the
    allocator keeps counts as well. Where the system cannot count the peak anew, it is that of the process's whole life.
    A fresh process gives the right figure everywhere.

    Args:
        device: where the model is.
        model: the model, before it computes.
    """

    def __init__(self, device: torch.device, model: nn.Module):
        self.device = device
        self.weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        gc.collect()  # freed later, it would hide as much of what the model takes
        with contextlib.suppress(OSError):
            CLEAR.write_text(FORGET_PEAK)
        self.before = resident("VmRSS")

    def figures(self) -> dict[str, float]:
        """MiB at most: ``mib``, of the weights and all that came later; on a CPU ``process_mib``, of the process."""
        if self.device.type == "cuda":
            return {"mib": round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)}
        most = resident("VmHWM")
        return {
            "mib": round((max(0, most - self.before) + self.weights) / 2**20, 1),
            "process_mib": round(most / 2**20, 1),
        }


def resident(name: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most. Without Linux's files both are the most so far."""
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    if found:
        return int(found[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1 << 10)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch or Python says that memory is short."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Drops the output to stderr. The profiler's library writes there, past Python, when it starts and stops."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
