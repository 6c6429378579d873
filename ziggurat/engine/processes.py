"""The device of a process, and the group of processes: NCCL on GPUs, gloo on CPUs."""

import ctypes
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta

import torch
from torch import distributed

from backbones.errors import UserError
from ziggurat.engine.console import say_note

GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def pick_device(device: str | None) -> str:
    """ "cpu" or "cuda". None gives "cuda" if there is a GPU.

    Raises:
        UserError: ``device`` is "cuda", and there is no GPU.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("--device cuda: this machine has no GPU that PyTorch can use; allowed: cpu")
    return device or ("cuda" if available else "cpu")


def init_processes(launcher: str, device: str) -> None:
    """Joins the group of processes that torchrun or srun started. A second call does nothing.

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
    else:
        end_with_parent()
    for name in VARIABLES:
        if name not in os.environ:
            raise UserError(f"--launcher {launcher}: {name} is not set; start with dist_train.sh or torchrun")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # with more threads, processes on the same cores slow each other down
    local_rank = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(f"process {local_rank} of this node has no GPU; the node has {torch.cuda.device_count()}")
        torch.cuda.set_device(local_rank)
    # The first process scores a whole validation set while the others wait. NCCL's own limit is 10 minutes.
    backend, timeout = "nccl" if device == "cuda" else "gloo", timedelta(hours=1)
    # torchrun keeps its store when it starts the processes again. The addresses of those that ended are still there.
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)
    store, rank, processes = next(distributed.rendezvous("env://", timeout=timeout))
    store = distributed.PrefixStore(f"attempt_{attempt}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=timeout)
    if attempt:
        say_note("a process failed, and all have started again")


def leave_processes(status: int) -> None:
    """Ends this process with ``status`` if it belongs to a group of processes. Otherwise returns.

    The process ends at once. In the interpreter's own shutdown gloo's threads sometimes outlive their group, which
    aborts the process (SIGABRT) after a good run.
    """
    if not distributed.is_initialized():
        return
    if status == 0:
        distributed.barrier()  # the first process holds the store that the others use, so it must not leave early
    for worker in multiprocessing.active_children():
        worker.kill()  # workers of loaders ignore SIGTERM
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Lets Linux send a signal to this process when its parent ends: a killed launcher leaves no process behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG


def is_another_gone(error: BaseException) -> bool:
    """Whether an error of gloo or NCCL says that another process of the group has ended."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in GONE)


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
    # Every process computes the same port from the job's number. Jobs on one node get different ports. The ports are
    # below the range that systems assign automatically.
    os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 12000))


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list: ``gpu03`` of ``gpu[03-05,7]``."""
    if "[" not in nodes:
        return nodes.split(",")[0]
    try:
        listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return listed.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        prefix, first = re.match(r"([^\[,]*)\[([^\-,\]]+)", nodes).groups()
        return prefix + first
