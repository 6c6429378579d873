"""Running inputs in forked children, whose time and memory are bounded, so that no input ends the parent."""

import contextlib
import faulthandler
import gc
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fuzz_odd import Target, Wrong

from backbones import UserError

SECONDS = 10.0  # an input that takes longer hangs
LONGEST_WAIT = 120.0  # on a machine that is busy with other programs
MEMORY = 6 << 30  # bytes that a child may have beside what its parent has
LONGEST = 2000  # characters of a message that is still one line

RESULTS, CLEAR, TRACEBACK, HANG, CRASH, WRONG = KINDS = (
    "results",
    "clear_errors",
    "tracebacks",
    "hangs",
    "crashes",
    "wrong",
)


class Outcome(NamedTuple):
    """What became of one input: its number, one of ``KINDS``, and the message or traceback."""

    index: int
    kind: str
    detail: str


def generator(seed: int, name: str, index: int) -> Random:
    """The generator of one input. The same three values give the same input."""
    return Random(f"{seed} {name} {index}")


def input_of(target: Target, name: str, seed: int, index: int) -> Any:
    """The input of a number: one of a list, or one that a generator makes."""
    cases = getattr(target, "cases", None)
    return target.make(generator(seed, name, index)) if cases is None else cases[index]


def outcome_of(target: Target, given: Any) -> tuple[str, str]:
    """Runs one input in this process: one of ``KINDS``, and the message or traceback."""
    try:
        target.run(given)
    except UserError as error:
        text = str(error)
        if text and "\n" not in text and len(text) <= LONGEST:
            return CLEAR, text
        return TRACEBACK, f"no line of a message, but {len(text)} characters: {text[:LONGEST]!r}"
    except Wrong as error:
        return WRONG, str(error)
    except (Exception, SystemExit):
        return TRACEBACK, traceback.format_exc()
    return RESULTS, ""


def run_all(target: Target, name: str, seed: int, count: int, batch: int) -> Iterator[Outcome]:
    """The outcomes of ``count`` inputs, in order. Children run ``batch`` inputs each, one child after another."""
    index = 0
    while index < count:
        for outcome in run_child(target, name, seed, range(index, min(index + batch, count))):
            if outcome.kind == HANG:  # a busy machine may have been the cause, so the input gets a second try
                outcome = next(run_child(target, name, seed, range(outcome.index, outcome.index + 1)))
            index = outcome.index + 1
            yield outcome


def run_child(target: Target, name: str, seed: int, numbers: range) -> Iterator[Outcome]:
    """The outcomes of some inputs in one child. The last is the first that hangs or crashes."""
    gc.freeze()  # the parent's objects are no garbage, and data sets collect garbage when they load
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with contextlib.suppress(BaseException):
            work(target, name, seed, numbers, writer)
        os._exit(0)
    os.close(writer)
    index, text, since = numbers.start, b"", time.monotonic()
    try:
        while index < numbers.stop:
            left = since + SECONDS - time.monotonic()
            ready, _, _ = select.select([reader], [], [], max(min(1.0, SECONDS), left))
            read = os.read(reader, 1 << 16) if ready else b""
            text += read
            *lines, text = text.split(b"\n")
            for line in lines:
                yield Outcome(*json.loads(line))
                index, since = index + 1, time.monotonic()
            if not ready and waits_for_a_core(child, time.monotonic() - since):
                continue
            if not ready:
                yield Outcome(index, HANG, f"more than {SECONDS:g} seconds")
                return
            if not read and index < numbers.stop:
                _, status = os.waitpid(child, 0)
                child = None
                yield Outcome(index, CRASH, cause_of_death(status))
                return
    finally:
        os.close(reader)
        if child is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def waits_for_a_core(child: int, seconds: float) -> bool:
    """Whether a child, after so many seconds with one input, is slow since the machine is busy.

    Such a child can run, and has used less than ``SECONDS`` of processor time. One that hangs sleeps, or has used them.
    """
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return fields[0] == "R" and used < SECONDS and seconds < LONGEST_WAIT


def cause_of_death(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def work(target: Target, name: str, seed: int, numbers: range, writer: int) -> None:
    """What a child does: it writes a line of JSON for each outcome."""
    os.setsid()  # what an input sends to its group of processes does not reach the parent
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # a crash is for the parent to tell
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    sys.setrecursionlimit(1000)
    for index in numbers:
        kind, detail = outcome_of(target, input_of(target, name, seed, index))
        os.write(writer, json.dumps([index, kind, detail[-20_000:]]).encode() + b"\n")
