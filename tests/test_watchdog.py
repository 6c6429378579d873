"""A training that stalls says which process waits for what."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from helpers import Losses  # noqa: F401  registers the hook of the runs here
from paper_run import RECIPE, options_for

from backbones import UserError
from ziggurat.engine.config import load_config
from ziggurat.engine.heartbeat import Heartbeat, forget_heartbeats, read_heartbeats
from ziggurat.engine.run import build_training
from ziggurat.engine.watchdog import WatchdogHook, lines_behind
from ziggurat.engine.whereabouts import WAITS_FOR_OTHERS, of_main_thread


@pytest.mark.usefixtures("shallow_van")
@pytest.mark.parametrize(("workers", "said"), [(1, "waiting for a worker of the data loader"), (0, "loading data")])
def test_a_late_image_is_told_and_the_run_goes_on(noise_images, tmp_path, monkeypatch, capfd, workers, said):
    monkeypatch.delenv("ZIGGURAT_NO_WATCHDOG")
    options = options_for(noise_images, workers=workers, **{"train_cfg.max_epochs": 1})
    options["custom_hooks"] = [dict(type="Losses"), dict(type="WatchdogHook", seconds=1.0)]
    runner = build_training(load_config(RECIPE, options | {"default_hooks.watchdog": None}), tmp_path, device="cpu")
    kind = type(runner.train_dataloader.dataset)
    in_time = kind.__getitem__

    def late(self, index):
        if int(index) == 5:
            time.sleep(2.5)
        return in_time(self, index)

    monkeypatch.setattr(kind, "__getitem__", late)
    runner.train()
    lines = [line for line in capfd.readouterr().err.splitlines() if "finished no step" in line]
    place = r"\((mmengine|engine)/\S+:\d+ in \w+\)"
    pattern = rf"note: rank 0 finished no step for \d s after iteration \d: {said} {place}; stacks: /"
    assert any(re.match(pattern, line) for line in lines), lines
    log = Path(runner.logger.log_file).read_text()
    assert log.count("the stacks of all threads") == len(lines) and "most recent call first" in log
    assert "host_memory" in log
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    (facts,) = read_heartbeats(tmp_path).values()
    assert (facts["stage"], facts["iter"], facts["limit"]) == ("ended", 6, 1.0)


GROUP = """
import sys, time
from pathlib import Path
from torch import distributed
from ziggurat.engine.heartbeat import Heartbeat
from ziggurat.engine.watchdog import Watchdog
work_dir = Path(sys.argv[1])
distributed.init_process_group("gloo")
rank = distributed.get_rank()
heart = Heartbeat(work_dir, rank)
heart.facts |= dict(iter=7)
distributed.barrier()
dog = Watchdog(heart, 1.0, 2.5 if rank == 0 else None, work_dir / f"{rank}.txt")
dog.start()
if rank == 1:
    time.sleep(60)
distributed.barrier()
"""


def test_of_two_processes_the_one_that_the_other_waits_for_is_named(tmp_path):
    """The first process then ends itself, as its ``end_after`` says."""
    (tmp_path / "group.py").write_text(GROUP)
    common = dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(20000 + os.getpid() % 12000))
    both = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "group.py"), str(tmp_path)],
            env=os.environ | common | {"RANK": rank, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = both[0].communicate(timeout=100)[1].splitlines()
        assert both[0].returncode == 1, said
    finally:
        both[1].kill()
        also = both[1].communicate()[1].splitlines()
    first = [line for line in said if line.startswith("note: rank 0 finished no step for 1 s after iteration 7")]
    assert len(first) == 1 and WAITS_FOR_OTHERS in first[0], said
    assert re.search(r"; rank 1 is behind, after iteration 7: computing", first[0]), first
    assert any("ends (end_after of WatchdogHook)" in line for line in said)
    assert any(line.startswith("note: rank 1 finished no step") for line in also)
    assert "barrier" in (tmp_path / "0.txt").read_text()


def test_a_process_with_fewer_iterations_is_behind():
    hearts = {0: dict(iter=8), 1: dict(iter=6, where="loading data (a.py:3 in b)"), 2: dict(iter=8)}
    assert lines_behind(hearts) == ["rank 1 is behind, after iteration 6: loading data (a.py:3 in b)"]
    assert lines_behind({0: dict(iter=8)}) == []
    assert lines_behind({0: dict(iter=8, time=99.0), 1: dict(iter=5, time=95.0)}) == []  # both go on
    silent = lines_behind({0: dict(iter=8, time=99.0), 1: dict(iter=5, time=9.0)})
    assert silent == ["rank 1 gave no sign of life for 90 s, after iteration 5"]


def test_a_stack_without_a_known_call_is_computing():
    assert of_main_thread().what == "computing"


def test_a_heartbeat_is_written_now_and_then_and_never_raises(tmp_path):
    heart = Heartbeat(tmp_path / "run", 1, pause=60)
    heart.beat(at_once=True)
    assert not (tmp_path / "run").exists()  # a work dir that was removed stays away
    (tmp_path / "run").mkdir()
    heart.beat(at_once=True, iter=1)
    heart.beat(iter=2)
    assert read_heartbeats(tmp_path / "run")[1]["iter"] == 1
    (tmp_path / "run/.heartbeats/3.json").write_text("{")
    (tmp_path / "run/.heartbeats/4.json").write_text("[]")
    assert list(read_heartbeats(tmp_path / "run")) == [1]
    forget_heartbeats(tmp_path / "run", 1)
    assert read_heartbeats(tmp_path / "run") == {}
    (tmp_path / "file/.heartbeats").parent.mkdir()
    (tmp_path / "file/.heartbeats").write_text("")
    Heartbeat(tmp_path / "file", 0).beat(at_once=True)


@pytest.mark.parametrize(
    "options", [dict(seconds=0), dict(seconds="600"), dict(end_after=True), dict(seconds=float("nan"))]
)
def test_a_time_that_is_none_is_refused(options):
    with pytest.raises(UserError, match=r"of WatchdogHook is .*; allowed: numbers above 0, or None"):
        WatchdogHook(**options)
