"""The demo's steps: commands run side by side, a failure is reported once, and no process is left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backbones import UserError
from tools.demo import demo

ROOT = Path(__file__).resolve().parent.parent


def step(*scripts):
    return demo.Step("step", "title", lambda: [demo.Command(f"c{i}", ["-c", s]) for i, s in enumerate(scripts)])


def test_commands_of_a_step_run_side_by_side_with_their_share_of_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "cores", lambda: 6)
    meet = """
import os, pathlib, sys, time
pathlib.Path(r"{here}").touch()
while not pathlib.Path(r"{there}").exists():
    time.sleep(0.02)
print("threads", os.environ["OMP_NUM_THREADS"])
"""
    a, b = tmp_path / "a", tmp_path / "b"
    assert demo.run_step(step(meet.format(here=a, there=b), meet.format(here=b, there=a)), "meet", tmp_path)
    for name in ("c0", "c1"):
        assert "threads 3" in (tmp_path / f"{name}.log").read_text()


def test_a_step_without_commands_was_done_before(tmp_path, capsys):
    assert demo.run_step(step(), "make the data", tmp_path)
    assert "there already" in capsys.readouterr().out


def test_a_failure_shows_its_last_lines_names_its_log_and_stops_the_others(tmp_path, capsys):
    fails = "for i in range(100): print('line', i)\nraise SystemExit(3)"
    sleeps = f"import os, pathlib, time; pathlib.Path(r'{tmp_path}/pid').write_text(str(os.getpid())); time.sleep(60)"
    waits = f"import pathlib, time\nwhile not pathlib.Path(r'{tmp_path}/pid').exists(): time.sleep(0.02)\n"
    start = time.monotonic()
    assert not demo.run_step(step(sleeps, waits + fails), "both", tmp_path)
    assert time.monotonic() - start < 30
    out, err = capsys.readouterr()
    assert "line 99" in out and "line 80" not in out
    assert err.count("\n") == 1 and "c1 failed with status 3" in err and "c1.log" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_ctrl_c_ends_the_tools_and_their_workers(tmp_path):
    worker = f"import pathlib, time; pathlib.Path(r'{tmp_path}/ready').touch(); time.sleep(60)"
    tool = f"""
import os, pathlib, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {worker!r}])
pathlib.Path(r"{tmp_path}/pids").write_text(f"{{os.getpid()}} {{worker.pid}}")
worker.wait()
"""
    caller = f"""
import pathlib
from ziggurat.engine.cli import run_tool
from tools.demo import demo
step = demo.Step("s", "t", lambda: [demo.Command("c", ["-c", {tool!r}])])
run_tool(lambda: demo.run_step(step, "headline", pathlib.Path(r"{tmp_path}")))
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", caller],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=30)
    assert process.returncode == 130
    assert complaints.strip() == "interrupted"
    for pid in (tmp_path / "pids").read_text().split():
        assert not alive(int(pid))


def alive(pid):
    """Whether a process runs; one that ended but that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_step_calls_a_tool_and_a_config_that_exist(tmp_path):
    dense = [f"{task}-{start}" for task in ("detection", "segmentation") for start in demo.STARTS]
    for run in ("classification", *dense):
        (tmp_path / run).mkdir()
        (tmp_path / run / "last_checkpoint").write_text(f"/weights/{run}.pth")
    steps = demo.plan(tmp_path, tmp_path / "data", "cpu")
    commands = {command.name: command.argv for step in steps for command in step.commands()}
    for argv in commands.values():
        assert (ROOT / argv[0]).is_file(), argv[0]
        assert all((ROOT / part).is_file() for part in argv if "/configs/" in part), argv
    assert "model.backbone.pretrained=/weights/classification.pth" in commands["train-detection-pretrained"]
    assert "model.backbone.pretrained=None" in commands["train-segmentation-scratch"]
    names = [command.name for step in steps for command in step.commands()]
    assert len(set(names)) == len(names), "two commands write one log"


def test_finished_data_is_used_again_and_a_folder_of_the_user_is_refused(tmp_path):
    (tmp_path / "demo_data.json").write_text("{}")
    demo.check_data_folder(tmp_path)
    (older,) = demo.plan(tmp_path, tmp_path, "cpu")[0].commands()
    assert older.argv == ["tools/make_demo_data.py", "--out", str(tmp_path), "--complete"]
    (tmp_path / "coco/annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / f"coco/annotations/panoptic_{split}2017.json").write_text("{}")
    assert demo.plan(tmp_path, tmp_path, "cpu")[0].commands() == []
    (tmp_path / "demo_data.json").rename(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="other things"):
        demo.check_data_folder(tmp_path)
