"""A disk, a network folder or a worker fails in a training: one line, or the run goes on; no checkpoint is lost."""

import errno
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Losses, same
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from paper_run import RECIPE, options_for
from PIL import Image

from backbones import UserError, files
from backbones.errors import Notice
from backbones.images import read_image
from backbones.weights import read_checkpoint, save_safely
from ziggurat.engine import disk_faults, loader_workers
from ziggurat.engine.cli import run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.disk_faults import tried_again
from ziggurat.engine.log_file import LogText
from ziggurat.engine.run import build_training
from ziggurat.engine.saving import Writer, finish_saving

pytestmark = pytest.mark.usefixtures("shallow_van")
FAULT_AT = 6  # between the checkpoints of steps 4 and 8


@HOOKS.register_module(force=True)
class Fault(Hook):
    """Calls a function with the runner before a step."""

    priority = "HIGHEST"

    def __init__(self, cause):
        self.cause = cause

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == FAULT_AT:
            CAUSES[self.cause](runner)


def logs_fail(runner):
    for path in [path for path in Path(runner.log_dir).rglob("*") if path.is_file()]:
        path.unlink()
        path.mkdir()
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.setStream(open("/dev/full", "w"))  # noqa: SIM115  the handler closes it
    runner.logger.info("lost")


def a_worker_dies(runner):
    finish_saving(runner)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)


def no_space(runner):
    finish_saving(runner)  # the checkpoint of step 4
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))


CAUSES = {
    "none": lambda runner: None,
    "no space": no_space,
    "removed": lambda runner: shutil.rmtree(runner.work_dir, ignore_errors=True),  # a file may be written meanwhile
    "logs": logs_fail,
    "worker": a_worker_dies,
}


def prepare(noise_images, work_dir, cause="none", resume=None, workers=0):
    """A training of 12 steps with a checkpoint after every fourth."""
    options = options_for(noise_images, workers=workers)
    hooks = [dict(type="EMAHook", momentum=0.1, update_buffers=True), dict(type="Losses")]
    options |= {"custom_hooks": [*hooks, dict(type="Fault", cause=cause)], "default_hooks.logger.interval": 1}
    return build_training(load_config(RECIPE, options), work_dir, resume=resume, device="cpu")


@pytest.fixture(scope="module")
def whole(noise_images, shallow_van, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    runner = prepare(noise_images, folder)
    runner.train()
    return losses_of(runner), torch.load(folder / "iter_12.pth", weights_only=True)


@pytest.fixture(autouse=True)
def no_limit():
    disk_faults.SAID.clear()
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def losses_of(runner):
    return next(hook.values for hook in runner.hooks if isinstance(hook, Losses))


def goes_on_after(noise_images, whole, work_dir):
    """A resumed run goes on from step 4, and ends as the whole one."""
    assert Path((work_dir / "last_checkpoint").read_text()).name == "iter_4.pth"
    assert [path.name for path in work_dir.glob("*.pth")] == ["iter_4.pth"]
    assert not list(work_dir.glob(".*.tmp"))
    again = prepare(noise_images, work_dir, resume="auto")
    again.train()
    assert losses_of(again) == whole[0][4:]
    same(torch.load(work_dir / "iter_12.pth", weights_only=True)["state_dict"], whole[1]["state_dict"])


def test_a_disk_without_space_ends_the_run_with_one_line(noise_images, whole, tmp_path):
    run = prepare(noise_images, tmp_path, "no space")
    with pytest.raises(UserError, match=r"iter_8.pth could not be written: File too large; earlier checkpoints"):
        run.train()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    goes_on_after(noise_images, whole, tmp_path)


def test_a_killed_worker_ends_the_run_with_one_line(noise_images, whole, tmp_path):
    run = prepare(noise_images, tmp_path, "worker", workers=2)
    with pytest.raises(UserError, match=r"^a worker of a data loader was killed, as happens when memory is used up; "):
        run.train()
    goes_on_after(noise_images, whole, tmp_path)


@pytest.mark.parametrize("cause", ["removed", "logs"])
def test_a_run_that_can_still_save_goes_on(noise_images, whole, tmp_path, capfd, cause):
    """Without logs, and without what was in the folder."""
    run = prepare(noise_images, tmp_path, cause)
    run.train()
    assert losses_of(run) == whole[0]
    last = Path((tmp_path / "last_checkpoint").read_text())
    same(torch.load(last, weights_only=True)["state_dict"], whole[1]["state_dict"])
    err = capfd.readouterr().err
    assert err.count("the JSON lines cannot be written: ") == 1 and "Traceback" not in err
    assert err.count("was removed; it is made again, and checkpoints go on there") == (cause == "removed")
    assert (tmp_path / ".lock").is_file() and (tmp_path / Path(RECIPE).name).is_file()


class Failing:
    """A function in place of another, which fails so many times first."""

    def __init__(self, real, code, times):
        self.real, self.code, self.times = real, code, times

    def __call__(self, *args, **kwargs):
        if self.times:
            self.times -= 1
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args, **kwargs)


@pytest.mark.parametrize(
    ("code", "times", "saved"), [(errno.EIO, 2, True), (errno.EIO, 3, False), (errno.EROFS, 1, False)]
)
def test_a_fault_that_passes_is_tried_again(tmp_path, monkeypatch, capsys, code, times, saved):
    monkeypatch.setattr(disk_faults, "WAITS", (0.0, 0.0))
    path, old = tmp_path / "iter_1.pth", {"state_dict": {"a": torch.zeros(2)}, "meta": {}}
    save_safely(old, path)
    monkeypatch.setattr(os, "fsync", Failing(os.fsync, code, times))
    new = old | {"state_dict": {"a": torch.ones(2)}}
    try:
        with Writer() as writer:
            writer.submit(tried_again, save_safely, new, path)
        assert saved
    except UserError as error:
        assert not saved and f"iter_1.pth could not be written: {os.strerror(code)}; earlier" in str(error)
    assert capsys.readouterr().err.count("tried again after") == (2 if code == errno.EIO else 0)
    assert read_checkpoint(path)["state_dict"]["a"].sum() == (2 if saved else 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["iter_1.pth"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_is_the_systems_error_in_every_format(tmp_path, suffix):
    content = {"a": torch.zeros(1 << 20)} | ({"meta": {}} if suffix == ".pth" else {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large") as error:
        save_safely(content, tmp_path / f"a{suffix}")
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / f"a{suffix}"))
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_is_said_once(tmp_path, capsys):
    (tmp_path / "full").symlink_to("/dev/full")
    for path in (tmp_path / "full", tmp_path / "absent/log"):
        with LogText(str(path)) as file:
            for _ in range(3):
                print("a line", file=file, flush=True)
        assert capsys.readouterr().err.count(f"the log {path} cannot be written") == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE, errno.ENOENT])
def test_tools_say_a_fault_of_the_machine_on_one_line(capsys, code):
    def main():
        raise OSError(code, os.strerror(code), "out/a.png")

    if code == errno.ENOENT:  # a fault of the program
        with pytest.raises(FileNotFoundError):
            run_tool(main)
        return
    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert stop.value.code == 2 and capsys.readouterr().err == f"error: out/a.png: {os.strerror(code)}\n"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that", "shared memory is too small"),
        ("unable to write to file </torch_7_3_0>: No space left on device (28)", "shared memory is too small"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "ended (exited unexpectedly); num_workers=0 shows"),
        (
            "DataLoader worker (pid 7) is killed by signal: Segmentation fault. ",
            "(killed by signal: Segmentation fault)",
        ),
        ("mat1 and mat2 shapes cannot be multiplied", ""),
    ],
)
def test_what_ended_a_worker_is_told(message, said):
    found = loader_workers.fault_of_workers(RuntimeError(message))
    assert said in found and bool(said) == bool(found)


@pytest.mark.parametrize("passes", [True, False])
def test_reading_an_image_is_tried_again(tmp_path, monkeypatch, passes):
    """The first bytes of this file are an input/output error, and then those of another file."""
    broken, whole = Path(f"/proc/{os.getpid()}/mem"), tmp_path / "whole.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(whole)

    def wait(seconds):
        for entry in Path("/proc/self/fd").iterdir() if passes else ():
            if os.path.realpath(entry) == str(broken):
                with open(whole, "rb") as file:
                    os.dup2(file.fileno(), int(entry.name))

    monkeypatch.setattr(files.time, "sleep", wait)
    with pytest.warns(Notice, match=r"Input/output error; tried again after 0.1 s"):
        if passes:
            np.testing.assert_array_equal(np.asarray(read_image(broken)), pixels)
        else:
            with pytest.raises(UserError, match=r"/mem.*Input/output error"):
                read_image(broken)


def test_the_signal_that_ended_a_worker_is_told_though_it_came_in_a_wait_for_data():
    with pytest.raises(RuntimeError) as caught:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        except RuntimeError as error:
            raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly") from error
    assert "was killed, as happens when memory is used up" in loader_workers.fault_of_workers(caught.value)


SHARED = """
import sys
import torch
from torch.utils.data import DataLoader
from ziggurat.engine.cli import run_tool
from ziggurat.engine.loader_workers import workers_explained

def main():
    with workers_explained():
        for _ in DataLoader(torch.zeros(8, 1 << 16), batch_size=4, num_workers=1):
            pass

run_tool(main)
"""


def test_shared_memory_that_is_too_small_is_named():
    """In a namespace with a /dev/shm of 300 KiB, where the system allows one."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})" + SHARED
    small = 'mount -t tmpfs -o size=300k tmpfs /dev/shm && exec "$0" -c "$1"'
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces for users here")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", small, sys.executable, code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: shared memory is too small for the workers"), done
    assert done.stderr.count("\n") == 1
