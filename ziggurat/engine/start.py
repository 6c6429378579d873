"""The first import of every tool: until ``run_tool`` takes over, Ctrl-C ends the tool without a traceback.

Importing PyTorch and the mm packages takes seconds.
"""

import os
import signal
import sys
from pathlib import Path

from ziggurat.command import PROGRAM
from ziggurat.root import ROOT

CALLED = os.environ.pop(PROGRAM, None)  # e.g. "ziggurat train", which is not so in the processes that a tool starts
MAIN = getattr(sys.modules["__main__"], "__file__", None)

is_tool = MAIN is not None and ROOT / "tools" in Path(MAIN).resolve().parents
if is_tool and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so in a shell's background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupts_raise() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
