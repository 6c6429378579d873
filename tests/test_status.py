"""tools/status.py says of a real run, from the files of its work dir alone, what it does."""

import json
import os
import shutil
import signal
import time

import pytest
import status as status_tool
from helpers import run
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from paper_run import EPOCH, RECIPE, validated_options_for

from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.signals import Stopped
from ziggurat.engine.status import is_locked, stage_of, status_of

pytestmark = pytest.mark.usefixtures("shallow_van")
LIMIT = 4.0


@HOOKS.register_module(force=True)
class Looks(Hook):
    """Keeps the status of the run at its moments; stops it after the first step of the second epoch."""

    priority = "LOWEST"

    def __init__(self):
        self.seen = {}

    def before_train(self, runner):
        self.seen["start"] = status_of(runner.work_dir)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen["step"] = status_of(runner.work_dir)
        if runner.iter == 2:
            time.sleep(LIMIT + 0.1)
            self.seen["late"] = status_of(runner.work_dir)
        if runner.iter == EPOCH:
            shutil.copytree(runner.work_dir, f"{runner.work_dir}_killed")
            os.kill(os.getpid(), signal.SIGTERM)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen["validation"] = status_of(runner.work_dir)

    def before_save_checkpoint(self, runner, checkpoint):
        self.seen["saving"] = status_of(runner.work_dir)


def prepare(images, work_dir, resume=None):
    options = {
        "custom_hooks": [dict(type="Looks"), dict(type="WatchdogHook", seconds=LIMIT)],
        "default_hooks.watchdog": None,
        "default_hooks.logger.interval": 2,
        "default_hooks.checkpoint": dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best="top1"),
    }
    cfg = load_config(RECIPE, validated_options_for(images, 0, **options))
    return build_training(cfg, work_dir, resume=resume, device="cpu")


def test_each_stage_of_a_run(noise_images, tmp_path, monkeypatch, capsys):
    """A copy of the folder, of whose files no process holds one, is what SIGKILL leaves."""
    folder = tmp_path / "run"
    runner = prepare(noise_images, folder)
    assert status_of(folder)["stage"] == "starting"
    with pytest.raises(Stopped):
        runner.train()
    seen = next(hook.seen for hook in runner.hooks if isinstance(hook, Looks))
    stages = {moment: facts["stage"] for moment, facts in seen.items()}
    assert (stages.pop("start"), stages.pop("saving")) == ("starting", "training, saving")
    assert stages.pop("late").startswith("stalled, in training for ")
    for moment, stage in (("step", "training"), ("validation", "validation")):
        assert stages[moment] in (stage, f"{stage}, saving")  # a thread may still write a checkpoint
    assert all(facts["running"] for facts in seen.values())
    step = seen["step"]
    assert (step["iter"], step["epoch"]) in ((EPOCH, 1), (EPOCH + 1, 2))  # a heartbeat is up to 5 s old
    assert (step["max_iters"], step["max_epochs"]) == (2 * EPOCH, 2)
    assert step["eta"] == pytest.approx(step["seconds"] * (2 * EPOCH - step["iter"])) and 0 <= step["loader"] <= 1
    assert step["loss"] > 0 and step["host_memory"] > 100 and step["validation"] == {"top1": 50.0}
    assert step["checkpoint"]["name"] == "epoch_1.pth"
    assert step["best"] == {"top1": {"file": "best_top1_epoch_1.pth", "score": 50.0}}

    after = status_of(folder)
    assert (after["stage"], after["running"]) == ("stopped by SIGTERM", False) and "eta" not in after
    killed = status_of(f"{folder}_killed", verify=True)
    assert killed["stage"] == "killed" and killed["checkpoint"]["good"]
    assert killed["checkpoint"]["name"] == "epoch_1.pth"

    prepare(noise_images, folder, resume=True).train()
    capsys.readouterr()
    status, out, _ = run(status_tool, [folder, "--verify"], monkeypatch, capsys)
    lines = out.splitlines()
    assert status == 0 and lines[0].startswith(f"{folder}: ended; last sign of life 0:0")
    assert lines[1].startswith(f"epoch 2 of 2, iteration {2 * EPOCH} of {2 * EPOCH}, ") and "for the loader" in lines[1]
    assert lines[2].startswith("loss 0.") and lines[2].endswith("MiB of the machine")
    assert lines[3:5] == ["validation: top1 50", "best top1: best_top1_epoch_1.pth, 50"]
    assert lines[5].startswith("last checkpoint: epoch_2.pth, 0:0") and lines[5].endswith("old, good")
    status, out, _ = run(status_tool, [folder, "--json"], monkeypatch, capsys)
    assert status == 0 and json.loads(out)["stage"] == "ended"
    (folder / "epoch_2.pth").write_bytes(b"PK")
    status, out, _ = run(status_tool, [folder, "--verify"], monkeypatch, capsys)
    assert status == 0 and out.splitlines()[5].startswith("nothing to resume in")


def test_a_folder_without_a_run_is_one_line_and_one_without_a_training_is_told(tmp_path, monkeypatch, capsys):
    for path in (tmp_path, tmp_path / "absent"):
        status, out, err = run(status_tool, [path], monkeypatch, capsys)
        assert status == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    (tmp_path / "epoch_1.pth").write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text("/elsewhere/epoch_1.pth")
    (tmp_path / "best_a\x1b[31m_epoch_1.pth").write_bytes(b"")
    status, out, _ = run(status_tool, [tmp_path], monkeypatch, capsys)
    assert status == 0 and "\x1b" not in out and out.startswith(f"{tmp_path}: not running\n")
    facts = status_of(tmp_path)
    assert facts["stage"] == "not running" and facts["checkpoint"]["name"] == "epoch_1.pth" and not is_locked(tmp_path)


def test_a_training_of_another_machine_runs_while_its_heartbeat_is_young():
    """A lock does not show there on every network file system."""
    first = dict(stage="training", host="another", pid=1, time=1000.0, progress=990.0, limit=60)
    assert [stage_of(first, False, now) for now in (1010.0, 1055.0, 1061.0)] == [
        "training",
        "stalled, in training for 65 s",
        "killed",
    ]
