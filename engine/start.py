"""The first import of every tool: until ``run_tool`` takes over, Ctrl-C ends the tool without a traceback.

Importing PyTorch and the mm packages takes seconds.
"""

import signal
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / "tools"
MAIN = getattr(sys.modules["__main__"], "__file__", None)

is_tool = MAIN is not None and TOOLS in Path(MAIN).resolve().parents
if is_tool and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so in a shell's background
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupts_raise() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
