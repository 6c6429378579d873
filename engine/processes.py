"""The device of a process, and the group of processes: NCCL on GPUs, gloo without."""

import logging
import multiprocessing
import os
import re
import subprocess
import sys
from datetime import timedelta

import torch
from torch import distributed

from backbones.errors import UserError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def pick_device(device: str | None) -> str:
    """ "cpu" or "cuda". None is the GPU where there is one.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("--device cuda: this machine has no GPU that PyTorch can use; allowed: cpu")
    return device or ("cuda" if available else "cpu")


def init_processes(launcher: str, device: str) -> None:
    """Joins the group of processes that torchrun or srun started, once.

    Args:
        launcher: ``"none"``, ``"pytorch"`` (torchrun's variables) or ``"slurm"`` (srun's).
        device: ``"cuda"`` or ``"cpu"``.

    Raises:
        UserError: the launcher's variables are absent, or a node has fewer GPUs than processes.
    """
    if launcher == "none" or distributed.is_initialized():
        return
    if launcher == "slurm":
        slurm_to_torch_env()
    for name in VARIABLES:
        if name not in os.environ:
            raise UserError(f"--launcher {launcher}: {name} is not set; start with dist_train.sh or torchrun")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # processes that share cores slow each other down with more
    local_rank = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(f"process {local_rank} of this node has no GPU; it has {torch.cuda.device_count()}")
        torch.cuda.set_device(local_rank)
    # The others wait while the first process scores a whole validation set; NCCL's own limit is 10 minutes.
    backend, timeout = "nccl" if device == "cuda" else "gloo", timedelta(hours=1)
    distributed.init_process_group(backend, init_method="env://", timeout=timeout)


def leave_processes(status: int) -> None:
    """Ends this process with ``status`` where it belongs to a group; returns where it does not.

    At once, without the interpreter's own end: gloo's threads sometimes outlive their group there, which aborts the
    process (SIGABRT) after a run that went well.
    """
    if not distributed.is_initialized():
        return
    if status == 0:
        distributed.barrier()  # the first process serves the others' meeting point, so none leaves early
    for worker in multiprocessing.active_children():
        worker.terminate()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def env_rank(launcher: str) -> int:
    """This process's rank, known before the group exists."""
    return int(os.environ.get({"slurm": "SLURM_PROCID", "pytorch": "RANK"}.get(launcher, ""), 0))


def slurm_to_torch_env() -> None:
    """Gives srun's variables the names PyTorch knows."""
    for ours, slurm in (("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS"), ("LOCAL_RANK", "SLURM_LOCALID")):
        if slurm not in os.environ:
            raise UserError(f"--launcher slurm: {slurm} is not set; start with slurm_train.sh or srun")
        os.environ[ours] = os.environ[slurm]
    os.environ.setdefault("MASTER_ADDR", first_node(os.environ.get("SLURM_JOB_NODELIST", "127.0.0.1")))
    # Every process must come to the same port without talking: jobs on one node get different ones,
    # below the ports that systems hand out by themselves.
    os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 12000))


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list, ``gpu[03-05,7]`` -> ``gpu03``."""
    if "[" not in nodes:
        return nodes.split(",")[0]
    try:
        listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return listed.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        prefix, first = re.match(r"([^\[,]*)\[([^\-,\]]+)", nodes).groups()
        return prefix + first
