"""One cell of `make demo-full`: a training and its test, in a process that is forked from one with all imports done.

The libraries take as long to import as some cells take to train.
"""

import json
import multiprocessing
import os
import platform
import resource
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from backbones.files import write_json
from ziggurat.engine.cli import run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.options import parse_options

MIB = {"Darwin": 1 / 1024**2}  # of the unit of a process's memory; elsewhere a KiB
ROOT = Path(__file__).resolve().parents[2]
IMPORTED = ["classification", "detection", "segmentation", "ziggurat.engine.run"]
FIGURES, LOG = "figures.json", "log.txt"


def train_apart(folder: Path, cell: dict[str, Any], threads: int) -> int:
    """Trains and tests a cell in a process of its own. Returns its exit status, or minus the signal that ended it.

    Args:
        folder: gets figures.json, the output log.txt, and the work dir ``run``.
        cell: the arguments of :func:`figures` after ``run``.
        threads: of the process. The first call decides.
    """
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while waiting take the few cores from all others
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(IMPORTED)
    process = forks.Process(target=train, args=(folder, cell), daemon=True)  # ends with this process
    process.start()
    process.join()
    return process.exitcode


def train(folder: Path, cell: dict[str, Any]) -> None:
    os.chdir(ROOT)
    log = os.open(folder / LOG, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    command = ["tools/train.py", cell["leaf"], "--device", cell["device"], "--cfg-options", *cell["options"]]
    print("The same training:\n$ python", shlex.join(command), flush=True)
    run_tool(lambda: write_json(folder / FIGURES, figures(folder / "run", **cell)))


def figures(
    run: Path, leaf: str, options: list[str], device: str, metrics: dict[str, str], keep: bool
) -> dict[str, Any]:
    """Trains, tests the checkpoint, and returns what a table shows. Without ``keep`` the checkpoint is then removed.

    Returns:
        seconds (of both), parameters (of the whole model), first_loss and last_loss (means of the first and the last
        logged iterations), memory_mib (the most that this process held, or on a GPU its tensors) and each metric.
    """
    from ziggurat.engine.run import build_testing, build_training  # the caller of train_apart needs no mm

    start = time.monotonic()
    runner = build_training(load_config(leaf, parse_options(options)), run, overwrite=True, device=device)
    parameters = sum(part.numel() for part in runner.model.parameters())
    runner.train()
    log = Path(runner.log_dir) / "vis_data/scalars.json"
    losses = [row["loss"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    checkpoint = run / Path((run / "last_checkpoint").read_text().strip()).name
    cfg = load_config(leaf, parse_options(options))
    found = build_testing(cfg, checkpoint, run / "test", device=device).test()
    if not keep:
        checkpoint.unlink()  # the checkpoints of all cells would take gigabytes
    return {
        **{name: found[key] for name, key in metrics.items()},
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "memory_mib": peak_memory(device),
        "seconds": time.monotonic() - start,
        "parameters": parameters,
    }


def peak_memory(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MIB.get(platform.system(), 1 / 1024)
