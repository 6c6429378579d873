"""A signal ends a training after its step, with a checkpoint; the resumed training is the uninterrupted one."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import Losses, same
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from paper_run import EPOCH, RECIPE, options_for, validated_options_for

from backbones import UserError
from ziggurat.engine import signals
from ziggurat.engine.cli import run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.signals import Stopped, requeue_job

ROOT = Path(__file__).resolve().parent.parent


pytestmark = pytest.mark.usefixtures("shallow_van")


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends this process a signal at a moment of the training: ``("step", 3)`` or ``("validation", 1)``."""

    priority = "HIGHEST"

    def __init__(self, moment, number=signal.SIGTERM):
        self.kind, self.count, self.number = *moment, number

    def reached(self, kind):
        if kind == self.kind:
            self.count -= 1
            if self.count == 0:
                os.kill(os.getpid(), self.number)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.reached("step")

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.reached("validation")


def prepare(noise_images, work_dir, moment=None, resume=None, **options):
    """A run of two epochs, each with a checkpoint and a validation at its end."""
    hooks = [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Losses")]
    hooks += [dict(type="SignalHook", moment=moment)] if moment else []
    saving = dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best="top1")
    options = {"default_hooks.checkpoint": saving, "custom_hooks": hooks, **options}
    cfg = load_config(RECIPE, validated_options_for(noise_images, **options))
    return build_training(cfg, work_dir, resume=resume, device="cpu")


def losses_of(runner):
    return next(hook.values for hook in runner.hooks if isinstance(hook, Losses))


@pytest.fixture(scope="module")
def straight(noise_images, shallow_van, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    runner = prepare(noise_images, folder)
    runner.train()
    return losses_of(runner), folder


@pytest.mark.parametrize(
    ("moment", "finished"),
    [(("step", 3), 3), (("step", EPOCH), EPOCH), (("step", EPOCH + 2), EPOCH + 2), (("validation", 1), EPOCH)],
    ids=["in an epoch", "last step of an epoch", "second epoch", "in a validation"],
)
def test_a_stopped_and_resumed_run_is_the_uninterrupted_one(noise_images, straight, tmp_path, capfd, moment, finished):
    (losses, folder), before = straight, signal.getsignal(signal.SIGTERM)
    runner = prepare(noise_images, tmp_path, moment)
    with pytest.raises(Stopped) as stop:
        runner.train()
    assert stop.value.code == 143 and losses_of(runner) == losses[:finished]
    assert signal.getsignal(signal.SIGTERM) == before
    err = capfd.readouterr().err
    assert "SIGTERM: the run saves a checkpoint after this step" in err
    assert f"saved after iteration {finished}; --resume goes on from there" in err
    assert Path((tmp_path / "last_checkpoint").read_text()).name == f"iter_{finished}.pth"
    again = prepare(noise_images, tmp_path, resume="auto")
    again.train()
    assert losses_of(again) == losses[finished:]
    ours, theirs = (torch.load(path / "epoch_2.pth", weights_only=True) for path in (tmp_path, folder))
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        same(ours[part], theirs[part], part)
    scores = [content["message_hub"]["runtime_info"]["best_score"] for content in (ours, theirs)]
    assert scores[0] == scores[1]
    assert {path.name for path in tmp_path.glob("*.pth")} == {path.name for path in folder.glob("*.pth")}


def test_a_step_of_several_batches_is_finished_first(noise_images, tmp_path):
    options = {"optim_wrapper.accumulative_counts": 2, "train_cfg.val_interval": 9}
    whole = prepare(noise_images, tmp_path / "whole", **options)
    whole.train()
    with pytest.raises(Stopped):
        prepare(noise_images, tmp_path / "run", ("step", 3), **options).train()
    assert Path((tmp_path / "run/last_checkpoint").read_text()).name == "iter_4.pth"
    again = prepare(noise_images, tmp_path / "run", resume="auto", **options)
    again.train()
    assert losses_of(again) == losses_of(whole)[4:]


@HOOKS.register_module(force=True)
class PowerCut(Hook):
    """Ends a training before a step."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            raise RuntimeError("power cut")


def test_checkpoints_by_the_clock_are_saved_between_the_regular_ones(noise_images, straight, tmp_path):
    """Due after every step here. Only the newest of them is kept, until the next regular one."""
    (losses, folder) = straight
    saving = dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best="top1", minutes=1e-9)
    hooks = [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Losses")]
    cut = {"default_hooks.checkpoint": saving, "custom_hooks": [*hooks, dict(type="PowerCut", step=EPOCH + 4)]}
    with pytest.raises(RuntimeError, match="power cut"):
        prepare(noise_images, tmp_path, **cut).train()
    assert Path((tmp_path / "last_checkpoint").read_text()).name == f"iter_{EPOCH + 3}.pth"
    regular = {"epoch_1.pth", *(path.name for path in tmp_path.glob("best_*"))}
    assert {path.name for path in tmp_path.glob("*.pth")} == {*regular, f"iter_{EPOCH + 3}.pth"}
    again = prepare(noise_images, tmp_path, resume="auto", **{"default_hooks.checkpoint": saving})
    again.train()
    assert losses_of(again) == losses[EPOCH + 3 :]
    assert {path.name for path in tmp_path.glob("*.pth")} == {path.name for path in folder.glob("*.pth")}


@pytest.mark.parametrize("minutes", [0, -1, "5", float("nan")])
def test_minutes_between_checkpoints_are_checked(noise_images, tmp_path, minutes):
    with pytest.raises(UserError, match=r"minutes of CheckpointHook is .*; allowed: numbers above 0, or None"):
        prepare(noise_images, tmp_path, **{"default_hooks.checkpoint.minutes": minutes})


@pytest.mark.parametrize("number", signals.STOPPING)
def test_an_ignored_signal_stays_ignored(number):
    """As SIGHUP under nohup, and SIGINT in a shell's background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with signals.caught() as request:
            os.kill(os.getpid(), number)
        assert request.number == 0 and signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_run_without_checkpoints_says_that_nothing_is_saved(noise_images, tmp_path, capfd):
    runner = prepare(noise_images, tmp_path, ("step", 2), **{"default_hooks.checkpoint": None})
    with pytest.raises(Stopped):
        runner.train()
    err = capfd.readouterr().err
    assert "no checkpoint hook, so nothing is saved" in err and "saved after" not in err


def test_an_error_ends_the_workers_of_the_run_and_no_other_process(noise_images, tmp_path):
    mine = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    mine.start()
    runner = prepare(noise_images, tmp_path, ("step", 2))
    with pytest.raises(Stopped):
        runner.train()
    started = [pid for loader in runner.loaders for pid in loader.worker_init_fn.processes if pid]
    ends = time.monotonic() + 20
    while (there := {process.pid for process in multiprocessing.active_children()}) & set(started):
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert started and mine.pid in there
    mine.kill()


def test_auto_starts_a_run_where_there_is_none(noise_images, tmp_path):
    assert prepare(noise_images, tmp_path / "new", resume="auto").cfg.resume is False


def test_auto_goes_on_with_the_run_also_where_its_config_names_weights_to_start_from(noise_images, straight, tmp_path):
    last = straight[1] / "epoch_2.pth"
    options = {"load_from": str(last), "train_cfg.max_epochs": 1}
    first = prepare(noise_images, tmp_path, resume="auto", **options)
    assert (first.cfg.resume, first.cfg.load_from) == (False, str(last))
    first.train()
    again = prepare(noise_images, tmp_path, resume="auto", **options)
    assert (again.cfg.resume, again.cfg.load_from) == (True, str(tmp_path / "epoch_1.pth"))


def test_what_comes_at_once_is_one_signal_and_a_later_one_ends_the_process(monkeypatch, capfd):
    sent, request = [], signals.Request()
    monkeypatch.setattr(signals.os, "kill", lambda process, number: sent.append(number))
    monkeypatch.setattr(signals.signal, "signal", lambda number, handler: sent.append(handler))
    request(signal.SIGTERM, None)
    request(signal.SIGTERM, None)
    assert sent == [] and capfd.readouterr().err.count("\n") == 1
    monkeypatch.setattr(signals, "TWICE", 0.0)
    request(signal.SIGTERM, None)
    assert sent == [signal.SIG_DFL, signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_tool_ends_with_the_status_of_the_signal(number):
    def main():
        raise Stopped(number)

    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert stop.value.code == 128 + number


def test_an_error_after_a_signal_ends_as_the_signal_does(noise_images, tmp_path, monkeypatch, capsys):
    """As when another process is gone, and gloo raises."""
    runner = prepare(noise_images, tmp_path, ("step", 2))

    def gone(*_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(signals.StopHook, "poll", lambda self, runner, n, **_: runner.request.number and gone())
    with pytest.raises(Stopped) as stop:
        runner.train()
    fault = "another process of this training has ended"
    assert f"no checkpoint could be saved: {fault}" in capsys.readouterr().err and stop.value.fault == fault


def test_requeue_asks_slurm_in_the_first_process_alone(tmp_path, monkeypatch, capsys):
    answers = tmp_path / "asked"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {answers}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    requeue_job()
    assert "SLURM_JOB_ID is not set" in capsys.readouterr().err and not answers.exists()
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    for rank in ("1", "0"):
        monkeypatch.setenv("SLURM_PROCID", rank)
        requeue_job()
    assert answers.read_text() == "requeue 71\n" and "job 71 is queued again" in capsys.readouterr().err


SLOW = """
import time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from backbones import VAN

VAN.ARCHS["van_b0"] = VAN.ARCHS["van_b0"]._replace(depths=(1, 1, 1, 1))

@HOOKS.register_module()
class SlowHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(0.2)
"""


def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def start(noise_images, folder, processes, interval=500):
    """Two processes, or one without a launcher, that train for longer than the test waits, with loader workers."""
    (folder / "slow.py").write_text(SLOW)
    options = options_for(noise_images, workers=1) | {
        "train_cfg.max_epochs": 1000,
        "custom_hooks": [dict(type="SlowHook")],
    }
    options |= {"train_dataloader.batch_size": 2, "default_hooks.checkpoint": dict(by_epoch=False, interval=interval)}
    cfg = load_config(RECIPE, options)
    cfg.custom_imports.imports.append("slow")
    cfg.dump(folder / "config.py")
    command = [sys.executable, str(ROOT / "tools/train.py"), str(folder / "config.py"), "--device", "cpu"]
    if processes > 1:
        command[1:2] = [str(ROOT / "tools/launch/launch.py"), str(processes), command[1]]
        command += ["--launcher", "pytorch"]
    paths = os.pathsep.join([str(ROOT), str(folder)])
    log = open(folder / "log", "w")  # noqa: SIM115
    process = subprocess.Popen(
        [*command, "--work-dir", str(folder / "run"), "--resume", "auto"],
        env=dict(os.environ, PYTHONPATH=paths),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    wait_for(lambda: len(scalars(folder)) > 0, process, folder)
    return process


def scalars(folder):
    found = sorted((folder / "run").glob("*/vis_data/scalars.json"))
    return [json.loads(line) for line in found[-1].read_text().splitlines()] if found else []


def wait_for(reached, process, folder, seconds=120):
    ends = time.monotonic() + seconds
    while not reached():
        assert process is None or process.poll() is None, (folder / "log").read_text()[-2000:]
        assert time.monotonic() < ends, (folder / "log").read_text()[-2000:]
        time.sleep(0.1)


def processes_of(folder):
    """The processes, of any parent, that were started for a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(folder / "config.py").encode() in words:
            found.append(int(entry.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_to_the_whole_group_saves_once_and_leaves_no_process(noise_images, tmp_path, processes):
    """As Ctrl-C and Slurm do: launcher, processes and workers of loaders all get the signal."""
    process = start(noise_images, tmp_path, processes)
    for other in processes_of(tmp_path):
        os.kill(other, signal.SIGTERM)
    assert process.wait(timeout=60) == 143, (tmp_path / "log").read_text()[-2000:]
    text = (tmp_path / "log").read_text()
    assert text.count("saved after iteration") == 1 and "Traceback" not in text, text[-2000:]
    wait_for(lambda: not processes_of(tmp_path), None, tmp_path, 20)
    assert Path((tmp_path / "run/last_checkpoint").read_text()).is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_process_starts_all_of_them_again_from_the_last_checkpoint(noise_images, tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_RESTARTS", "1")
    process = start(noise_images, tmp_path, 2, interval=4)
    wait_for(lambda: (tmp_path / "run/last_checkpoint").exists(), process, tmp_path)
    ranks = [number for number in processes_of(tmp_path) if number != process.pid and parent_of(number) == process.pid]
    os.kill(max(ranks), signal.SIGKILL)
    logs = len(list((tmp_path / "run").glob("*/vis_data/scalars.json")))
    wait_for(lambda: len(list((tmp_path / "run").glob("*/vis_data/scalars.json"))) > logs, process, tmp_path)
    wait_for(lambda: scalars(tmp_path), process, tmp_path)
    assert scalars(tmp_path)[0]["step"] > 4
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143, (tmp_path / "log").read_text()[-2000:]
    text = (tmp_path / "log").read_text()
    assert text.count("note: a process failed, and all have started again") == 1 and "Traceback" not in text, text
    assert text.count("note: saved after iteration") == 1, text  # after the signal to all of them
    wait_for(lambda: not processes_of(tmp_path), None, tmp_path, 20)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's signal at a parent's death")
def test_a_killed_launcher_leaves_no_process_and_no_lock(noise_images, tmp_path):
    process = start(noise_images, tmp_path, 2)
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(tmp_path), None, tmp_path, 45)
    assert "saved after iteration" in (tmp_path / "log").read_text()
    again = start(noise_images, tmp_path, 1)
    again.kill()
    again.wait()
    wait_for(lambda: not processes_of(tmp_path), None, tmp_path, 20)
