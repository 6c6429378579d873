"""Tools that are interrupted while they import, or whose reader has gone, end without a traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))
SLOW = "import pathlib, time; pathlib.Path(__file__).with_name('begun').touch(); time.sleep(60)"


@pytest.mark.parametrize("tool", TOOLS)
def test_an_interrupted_import_says_nothing(tool, tmp_path):
    """A package that sleeps stands in for PyTorch."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(SLOW)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / tool)],
        env=dict(os.environ, PYTHONPATH=paths),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores the signal
    )
    ends = time.monotonic() + 60
    while not (tmp_path / "torch/begun").exists():
        assert process.poll() is None and time.monotonic() < ends, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=60)[0], process.returncode) == ("", -signal.SIGINT)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone_ends_a_tool(lines):
    """As in ``tool | head``, with less and with more text than Python keeps before it writes."""
    code = f"from ziggurat.engine.cli import run_tool; run_tool(lambda: print('a line\\n' * {lines}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 141)
    process.stderr.close()
