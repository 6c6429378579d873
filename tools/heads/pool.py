"""Rows in processes of their own, with limits. A process is forked after the imports, so a row starts at once."""

import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

GIB = 2**30


def run_each(
    work: Callable[[str], dict[str, Any]], names: list[str], processes: int, seconds: float, gib: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls ``work`` for each name in a process of its own, ``processes`` at a time, and yields results as they come.

    Args:
        work: gives a dict of JSON's types.
        names: its arguments.
        processes: how many run at the same time.
        seconds: of a process. After this time the process is killed.
        gib: memory that a process may take beyond what it starts with, in GiB.

    Yields:
        A name, and the dict; ``{"why": [REASON]}`` for a process that gave none.
    """
    context = multiprocessing.get_context("fork")
    waiting, running = list(reversed(names)), {}
    while waiting or running:
        while waiting and len(running) < processes:
            name = waiting.pop()
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(work, name, sender, gib), daemon=True)
            process.start()
            sender.close()
            running[name] = process, receiver, time.monotonic() + seconds
        for name, (process, receiver, end) in list(running.items()):
            if receiver.poll(0.05 / len(running)):
                try:
                    result = json.loads(receiver.recv_bytes())
                except EOFError:
                    process.join()
                    result = dict(why=[f"its process ended with status {process.exitcode}"])
            elif time.monotonic() > end:
                result = dict(why=[f"takes more than {seconds:g} s"])
            else:
                continue
            process.kill()
            process.join()
            receiver.close()
            del running[name]
            yield name, result


def _child(work: Callable[[str], dict[str, Any]], name: str, sender: Any, gib: float) -> None:
    with open(os.devnull, "w") as nowhere:  # what libraries print is no part of a table
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    limit = _data_bytes() + int(gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        result = work(name)
    except MemoryError:
        result = dict(why=[f"takes more than {gib:g} GiB"])
    sender.send_bytes(json.dumps(result).encode())


def _data_bytes() -> int:
    """The size of this process's data, which RLIMIT_DATA counts."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()
