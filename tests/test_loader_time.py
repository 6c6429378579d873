"""The console shows the time of a step beside the wait for the loader, and names once what may shorten the wait."""

import sys
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub
from torch.utils.data import DataLoader, Dataset

from ziggurat.engine import loader_time, progress
from ziggurat.engine.progress import ProgressHook


class Images(Dataset):
    def __init__(self, in_memory=False, count=100):
        self.in_memory, self.count = in_memory, count

    def __len__(self):
        return self.count


class Stream(Images):
    def __init__(self):
        super().__init__(True)


@pytest.fixture
def runner(monkeypatch):
    """A runner after 20 steps of 2 s, of which the loader took 1.5 s, on a machine of four cores."""
    monkeypatch.setattr(loader_time, "cores_here", lambda: 4)
    monkeypatch.setattr(progress, "by_epoch", lambda runner: False)
    hub = MessageHub("loader time")
    for _ in range(20):
        hub.update_scalar("train/time", 2.0)
        hub.update_scalar("train/data_time", 1.5)
    return SimpleNamespace(
        message_hub=hub, iter=0, max_iters=1000, train_dataloader=DataLoader(Images(), num_workers=0)
    )


def lines(runner, capsys, steps, interval=10):
    hook = ProgressHook(interval, pause=0)
    hook.start_iter, hook.total, hook.started, hook.out = 0, steps, 0.0, sys.stdout
    for runner.iter in range(steps):
        hook.after_train_iter(runner, 0)
    return capsys.readouterr().out.splitlines()


def test_lines_show_both_times_and_the_cure_once(runner, capsys):
    out = lines(runner, capsys, steps=30)
    assert sum("step 2.000 s  loader 1.500 s" in line for line in out) == 30
    notes = [line for line in out if line.startswith("note: ")]
    assert notes == [
        "note: the loader takes 1.50 s of 2.00 s a step; it may be faster with train_dataloader.num_workers=4 (now 0), "
        "or train_dataloader.dataset.in_memory=True"
    ]


@pytest.mark.parametrize(("step", "loader", "said"), [(2.0, 0.3, 0), (0.002, 0.0015, 0), (2.0, 1.9, 1)])
def test_a_short_wait_is_not_worth_a_note(step, loader, said, runner, capsys):
    for _ in range(20):
        runner.message_hub.update_scalar("train/time", step)
        runner.message_hub.update_scalar("train/data_time", loader)
    assert sum("note:" in line for line in lines(runner, capsys, steps=20)) == said


def test_without_the_timer_hook_nothing_is_shown(runner, capsys):
    runner.message_hub = MessageHub("no timer")
    assert not any("loader" in line for line in lines(runner, capsys, steps=20))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("dataset", "options", "processes", "expected"),
    [
        (Images(True), dict(num_workers=1), 1, ["num_workers=4 (now 1)", "persistent_workers=True"]),
        (Images(True), dict(num_workers=1, persistent_workers=True), 2, ["num_workers=2 (now 1)"]),
        (Images(count=10**6), dict(num_workers=4, persistent_workers=True), 1, ["resized once"]),
        (Images(), dict(num_workers=4, persistent_workers=True), 1, ["dataset.in_memory=True"]),
        (Stream(), dict(num_workers=9), 1, ["persistent_workers=True"]),
    ],
)
def test_cures_follow_from_loader_and_machine(dataset, options, processes, expected, monkeypatch):
    monkeypatch.setattr(loader_time, "cores_here", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    found = loader_time.cures(DataLoader(dataset, **options))
    assert len(found) == len(expected) and all(part in whole for part, whole in zip(expected, found)), found
