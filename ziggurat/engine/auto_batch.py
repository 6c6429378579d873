"""``batch_size="auto"``: the largest power of two that fits into memory, found by training steps in another process."""

import contextlib
import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, get_dist_info

from backbones.errors import UserError, shown
from ziggurat.engine.console import say_note
from ziggurat.engine.memory import resident

AUTO = "auto"
SHARE = 0.9  # of the free memory that a training may take
LONGEST = 30.0  # seconds of a step beyond which no larger batch is tried
GIB = 2**30
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
PROGRAM = "from ziggurat.engine.dry_run import main; main()"


def use_batch_option(cfg: Any, options: Container[str] = ()) -> None:
    """Writes ``batch_size="auto"`` of a config into its training loader, in place, and lets the rate follow the batch.

    Another ``batch_size`` is a name of the config's own. On the command line ``batch_size=8`` is short for
    ``train_dataloader.batch_size=8``.

    Args:
        cfg: the config.
        options: the dotted keys that the user has typed. A typed ``auto_scale_lr.enable`` stays.

    Raises:
        UserError: ``memory_budget`` is no size above 0.
    """
    loader, budget = cfg.get("train_dataloader"), cfg.get("memory_budget")
    if budget is not None:
        bytes_of(budget)
    if loader is None:
        return
    if isinstance(cfg.get("batch_size"), str) and cfg.batch_size == AUTO:
        loader.batch_size = AUTO
    if loader.get("batch_size") == AUTO:
        rule = cfg.get("auto_scale_lr") or {}
        if rule.get("base_batch_size") and "auto_scale_lr.enable" not in options:
            cfg.auto_scale_lr.enable = True


def bytes_of(budget: Any) -> int:
    """The bytes of ``4GiB`` or ``500MB``. Raises UserError for anything else, and for nothing."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?i?B)", budget, re.IGNORECASE) if isinstance(budget, str) else None
    unit = UNITS.get(found[2].upper()) if found else None
    size = float(found[1]) * unit if unit else 0
    if not 1 <= size < math.inf:
        raise UserError(f"memory_budget={shown(budget)}; allowed: a size above 0, such as 4GiB or 500MB")
    return int(size)


def settle_batch_size(cfg: Config, device: str, earlier: Any = None) -> None:
    """Before a training: finds the number for ``"auto"``, writes it into the config, and says what was tried.

    All processes of a training take the number of the one that has the least memory.

    Args:
        cfg: the completed config, changed in place.
        device: ``"cpu"`` or ``"cuda"``.
        earlier: the config of the run that is resumed, whose number stays.

    Raises:
        UserError: the smallest batch does not fit, or no step can be made.
    """
    loader = cfg.train_dataloader
    if loader.get("batch_size") != AUTO:
        if cfg.get("memory_budget") is not None:
            say_note(f"memory_budget has no effect, since train_dataloader.batch_size is {loader.get('batch_size')}")
        return
    number = (((earlier or {}).get("train_dataloader")) or {}).get("batch_size")
    if isinstance(number, int):
        say_note(f"batch_size auto: {number}, as in the run that is resumed")
    else:
        number, told = largest_that_fits(cfg, device)
        least = torch.tensor(number, device=device if get_dist_info()[1] > 1 else "cpu")
        all_reduce(least, "min")
        fewer = "" if int(least) == number else f"; another process has memory for {int(least)}"
        say_note(f"batch_size auto: {int(least)} ({told}{fewer})")
        number = int(least)
    loader.batch_size = number
    if cfg.get("batch_size") == AUTO:
        cfg.batch_size = number


def largest_that_fits(cfg: Config, device: str) -> tuple[int, str]:
    """The largest power of two that fits for this process, and what was tried, in words."""
    processes = get_dist_info()[1]
    with dry_runs(cfg, device) as ask:
        about = ask(None)
        if about.get("fault"):
            raise UserError(f"batch_size=auto: {about['fault']}")
        limit, tried, size = budget_of(cfg, device, about.get("free")), {}, 1
        most = max(1, (about.get("images") or sys.maxsize) // processes)
        while True:
            found = ask(size)
            if found.get("fault") and size == 1 < most:  # such as a norm that cannot train on one image
                size = 2
                continue
            if found.get("fault"):
                raise UserError(f"batch_size=auto: {found['fault']}")
            if found.get("short") or found["bytes"] > limit:
                needs = f"needs {gib(found['bytes'], limit)}" if "bytes" in found else f"does not fit {gib(limit)}"
                stop = f"{size} {needs}"
                break
            tried[size], size = found["bytes"], 2 * size
            foreseen = extrapolated(tried, size)
            if size > most:
                stop = f"there are {about['images']} training images"
            elif foreseen > limit:
                stop = f"{size} would need {gib(foreseen, limit)}"
            elif found["seconds"] > LONGEST:
                stop = f"{size} was not tried, since a step of {size // 2} takes {found['seconds']:.0f} s"
            else:
                continue
            break
    if not tried:
        ways = "smaller images, model.backbone.grad_checkpointing=True, a smaller network, or a larger memory_budget"
        raise UserError(f"batch_size=auto: a batch of {stop}; allowed: {ways}")
    return max(tried), ", ".join(f"{one}: {gib(used)}" for one, used in tried.items()) + f"; {stop}"


def extrapolated(tried: dict[int, int], size: int) -> float:
    """The bytes that a batch will take, by the last two that were tried; 0 if only one was."""
    if len(tried) < 2:
        return 0
    (less, few), (more, many) = list(tried.items())[-2:]
    return many + max(0, many - few) / (more - less) * (size - more)


def gib(*sizes: float) -> str:
    """Sizes as ``5.7 of 5.0 GiB``; below 1 GiB with two digits."""
    return " of ".join(f"{size / GIB:.2g}" if size < GIB else f"{size / GIB:.1f}" for size in sizes) + " GiB"


def budget_of(cfg: Config, device: str, free: int | None) -> float:
    """The bytes that the training may take: ``cfg.memory_budget``, and no more than a share of what is free.

    On a CPU the processes of a training share the memory, and what this process has already counts as free.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or 1) if get_dist_info()[1] > 1 else 1
    whole = free if device == "cuda" else available() / local + resident("VmRSS")
    given = cfg.get("memory_budget")
    return min(SHARE * whole, bytes_of(given)) if given is not None else SHARE * whole


def available() -> int:
    """Bytes that new work can take on this machine, or in this container."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text()) if MEMINFO.exists() else None
    free = int(found[1]) << 10 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no group, or a group without a limit: "max"
        free = min(free, int((GROUP / "memory.max").read_text()) - int((GROUP / "memory.current").read_text()))
    return max(0, free)


@contextlib.contextmanager
def dry_runs(cfg: Config, device: str) -> Iterator[Any]:
    """A function that asks another process for the memory of a batch, or, with None, for what it has read first."""
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)])
    variables = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables | {"PYTHONPATH": paths},
        start_new_session=True,  # Ctrl-C is for this process, which ends the other one
    )
    gpu = int(os.environ.get("LOCAL_RANK", 0)) if get_dist_info()[1] > 1 else 0  # asking CUDA would take memory there
    request = dict(config=cfg.to_dict(), filename=cfg.filename, device=device, gpu=gpu, threads=torch.get_num_threads())

    def ask(size: int | None) -> dict[str, Any]:
        try:
            child.stdin.write(pickle.dumps(request) if size is None else b"%d\n" % size)
            child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if line:
            return json.loads(line)
        if size is None or child.wait() != -signal.SIGKILL:
            return {"fault": "the process of the dry run ended without an answer"}
        return {"short": True}  # the system ended it

    try:
        yield ask
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
