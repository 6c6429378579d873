"""A training that is killed at each named point of a save, and at random moments, loses nothing."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_and_resumed_training_is_the_uninterrupted_one(tmp_path):
    """20 kills of ``make kill-test``. In a fresh interpreter: a process that has trained cannot be forked to train."""
    command = [sys.executable, str(ROOT / "tools/reliability/kill_test.py"), "--out", str(tmp_path / "kills.json")]
    command += ["--random", "3", "--dense", "0", "--times", "1", "--only", "classifier, saved by iterations"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "kills.json").read_text())
    (row,) = content["rows"]
    assert row["kills_at_points"] == len(content["points"]) and row["kills_at_random"] == 3
    assert row["runs"] > row["kills"] == 20 and row["half_files"] > 0 and not row["points_unreached"]
    assert not row["faults"]
