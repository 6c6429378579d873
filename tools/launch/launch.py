"""Starts one process per GPU with torchrun. Without a GPU the processes run on the CPU.

usage: ziggurat launch GPUS COMMAND [ARGUMENTS ...]        COMMAND: train, test, features, distill, knn, probe
       ziggurat launch GPUS FILE.py [ARGUMENTS ...]        in a clone also python tools/launch/launch.py GPUS FILE.py

Environment variables, with their defaults: NNODES (1), NODE_RANK (0), MASTER_ADDR (127.0.0.1), PORT (a free port; 29500
with several nodes, since the nodes must agree), MAX_RESTARTS (0: how often all processes start again after one of them
failed; a training then needs --resume auto). The exit status is the status of the first process that failed.
"""

import ziggurat.engine.start  # noqa: F401

import logging
import os
import re
import signal
import socket
import sys
from itertools import pairwise
from pathlib import Path

from ziggurat.command import PROGRAM, tool_of
from ziggurat.completion import PARALLEL

TOLD = ("train", "test", "distill", "features")  # commands with --launcher; the others read the environment alone
PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")  # to the processes, unless ignored, as under nohup


def main() -> None:
    processes, program, *arguments = understood(sys.argv[1:])
    nodes, node = number("NNODES", 1, least=1), number("NODE_RANK", 0)
    if node >= nodes:
        fail(f"NODE_RANK={node} with NNODES={nodes}; allowed: 0 to {nodes - 1}")
    if nodes > 1 and not os.environ.get("MASTER_ADDR"):
        fail(f"NNODES={nodes} needs MASTER_ADDR, the address of the node with NODE_RANK=0")
    address = os.environ.get("MASTER_ADDR") or "127.0.0.1"
    port = pick_port(nodes, node)
    restarts = number("MAX_RESTARTS", 0)
    if restarts and Path(program).name == "train.py" and not resumes(arguments):
        fail(f"MAX_RESTARTS={restarts} needs --resume auto, so that the training goes on from its last checkpoint")
    check_gpus(int(processes), arguments)
    # By default each process has a thread per core. Several such processes slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    caught = [name for name in PASSED_ON if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN]
    run_torchrun(
        [f"--nnodes={nodes}", f"--node-rank={node}", f"--master-addr={address}", f"--master-port={port}"]
        + [f"--max-restarts={restarts}", f"--signals-to-handle={','.join(caught)}"]
        + [f"--nproc-per-node={processes}", program, *arguments]
    )


def understood(arguments: list[str]) -> list[str]:
    """GPUS, the program's file, and its arguments. With -h the help is printed, and the process ends."""
    if {"-h", "--help"} & set(arguments[:1]):
        print(__doc__.strip())
        sys.exit(0)
    if len(arguments) < 2 or not re.fullmatch(r"[1-9]\d*", arguments[0]):
        given = " ".join(arguments[:2]) or "nothing"
        fail(f"launch got {given}; needed: GPUS, a number from 1, and a command: {', '.join(PARALLEL)}")
    processes, program, *rest = arguments
    if program in PARALLEL:
        os.environ[PROGRAM] = f"ziggurat {program}"
        return [processes, str(tool_of(program)), *rest, *(["--launcher", "pytorch"] if program in TOLD else [])]
    if not (Path(program).is_file() and program.endswith(".py")):
        fail(f"launch cannot start {program!r}; allowed: {', '.join(PARALLEL)}, or a file FILE.py")
    return arguments


def resumes(arguments: list[str]) -> bool:
    return "--resume=auto" in arguments or ("--resume", "auto") in pairwise(arguments)


def pick_port(nodes: int, node: int) -> int:
    port = number("PORT", 0) or number("MASTER_PORT", 0) or (29500 if nodes > 1 else 0)
    if node == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except (OSError, OverflowError):
                fail(f"PORT={port} cannot be used on this machine; leave it out for a free one, or choose another")
            port = probe.getsockname()[1]
    return port


def check_gpus(processes: int, arguments: list[str]) -> None:
    """Refuses more processes than GPUs. A machine without GPUs, or ``--device cpu``, runs on the CPU."""
    import torch

    there = torch.cuda.device_count()
    if there and processes > there and "cpu" not in [argument.removeprefix("--device=") for argument in arguments]:
        fail(f"{processes} GPUs asked for, {there} present; allowed: 1 to {there}, or any number with --device cpu")


def run_torchrun(arguments: list[str]) -> None:
    """Runs torchrun without its own traceback and table: the process that failed has printed its error."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # each has a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        run.main(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"error: process {rank} was ended by {signal.Signals(-failure.exitcode).name}", file=sys.stderr)
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def number(name: str, default: int, least: int = 0) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal() or int(value) < least:
        fail(f"{name}={value}; allowed: a number from {least} up")
    return int(value)


def fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
