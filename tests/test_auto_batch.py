"""``batch_size="auto"``: the largest power of two that fits, and a training like that with the number typed."""

import contextlib
import math

import pytest
from conftest import ROOT
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from paper_run import RECIPE, options_for, write_images

from backbones import UserError
from ziggurat.engine import auto_batch
from ziggurat.engine.auto_batch import (
    GIB,
    available,
    bytes_of,
    dry_runs,
    extrapolated,
    largest_that_fits,
    settle_batch_size,
)
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

RETINANET = ROOT / "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py"
SCALED = {"auto_scale_lr.base_batch_size": 4, "optim_wrapper.optimizer.lr": 1e-3}


@HOOKS.register_module(force=True)
class AllLosses(Hook):
    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs["loss"].detach()))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "data")


def config(images, **options):
    given = options_for(images, 0, custom_hooks=[dict(type="AllLosses")], **{"train_cfg.max_epochs": 1})
    given["randomness"] = dict(seed=3)
    for typed in ("train_dataloader.batch_size", "auto_scale_lr.enable"):
        given.pop(typed)
    return load_config(RECIPE, given | SCALED | options)


def test_the_training_is_that_of_the_number_typed(images, tmp_path, capsys):
    """Also the steps' random numbers, the statistics of norms, and the rate; a resumed run keeps the number."""
    losses = {}
    for value in ("auto", 8):
        options = {} if value == "auto" else {"auto_scale_lr.enable": True}
        cfg = config(images, batch_size=value, **options)
        runner = build_training(cfg, tmp_path / str(value), device="cpu")
        said = capsys.readouterr().err
        assert "lr 0.001 x 8/4 images per step = 0.002\n" in said
        assert ("; there are 12 training images)" in said) is (value == "auto")
        runner.train()
        losses[value] = next(hook.losses for hook in runner.hooks if isinstance(hook, AllLosses))
    assert losses["auto"] == losses[8] and len(losses[8]) == 1
    checkpoint = next((tmp_path / "auto").glob("*.pth"), None) or runner.save_checkpoint(tmp_path, "last.pth")
    cfg = config(images, batch_size="auto", load_from=str(checkpoint or tmp_path / "last.pth"))
    cfg.resume = True
    from ziggurat.engine.resumed import config_before

    settle_batch_size(cfg, "cpu", config_before(cfg))
    assert cfg.train_dataloader.batch_size == cfg.batch_size == 8
    assert "batch_size auto: 8, as in the run that is resumed" in capsys.readouterr().err


@pytest.fixture
def fake(monkeypatch):
    """Dry runs by a rule: ``base`` and ``slope`` in GiB, of ``images``; sizes up to ``fault`` are refused."""

    def make(base, slope, images=1000, fault=0, short=math.inf, seconds=1.0):
        asked = []

        @contextlib.contextmanager
        def runs(cfg, device):
            def ask(size):
                if size is None:
                    return {"images": images, "free": None}
                asked.append(size)
                if size <= fault:
                    return {"fault": "a norm needs more than one value"}
                return {"short": True} if size >= short else {"bytes": (base + slope * size) * GIB, "seconds": seconds}

            yield ask

        monkeypatch.setattr(auto_batch, "dry_runs", runs)
        monkeypatch.setattr(auto_batch, "available", lambda: 5 * GIB)
        monkeypatch.setattr(auto_batch, "SHARE", 1.0)
        monkeypatch.setattr(auto_batch, "resident", lambda name: 0)
        return asked

    return make


@pytest.mark.parametrize(
    ("rule", "number", "tried", "words"),
    [
        (dict(base=0.1, slope=0.35), 8, [1, 2, 4, 8], "8: 2.9 GiB; 16 would need 5.7 of 5.0 GiB"),
        (dict(base=0.1, slope=0.35, fault=1), 8, [1, 2, 4, 8], "2: 0.8 GiB, 4: 1.5 GiB, 8: 2.9 GiB; 16 would"),
        (dict(base=0, slope=0.01, images=37), 32, [1, 2, 4, 8, 16, 32], "; there are 37 training images"),
        (dict(base=0, slope=0.1, short=4), 2, [1, 2, 4], "; 4 does not fit 5.0 GiB"),
        (dict(base=0, slope=3), 1, [1, 2], "1: 3.0 GiB; 2 needs 6.0 of 5.0 GiB"),
        (dict(base=0, slope=0.1, seconds=40), 1, [1], "2 was not tried, since a step of 1 takes 40 s"),
        (dict(base=0, slope=0.1, images=1), 1, [1], "there are 1 training images"),
    ],
)
def test_the_largest_power_of_two_is_taken(rule, number, tried, words, fake):
    asked = fake(**rule)
    found, told = largest_that_fits({}, "cpu")
    assert (found, asked) == (number, tried) and words in told


def test_what_does_not_fit_is_refused_in_one_line(fake):
    fake(base=4, slope=2)
    with pytest.raises(UserError, match=r"batch_size=auto: a batch of 1 needs 6.0 of 5.0 GiB; allowed: smaller images"):
        largest_that_fits({}, "cpu")
    fake(base=0, slope=1, fault=2)
    with pytest.raises(UserError, match="batch_size=auto: a norm needs more than one value"):
        largest_that_fits({}, "cpu")


def test_a_process_that_the_system_ends_is_no_end_of_the_run(images, monkeypatch):
    code = """import os, sys
print('{"images": 4}', flush=True)
sys.stdin.buffer.read(9)
os.kill(os.getpid(), 9)"""
    monkeypatch.setattr(auto_batch, "PROGRAM", code)
    with dry_runs(config(images), "cpu") as ask:
        assert ask(None) == {"images": 4} and ask(1) == {"short": True}
    monkeypatch.setattr(auto_batch, "PROGRAM", "raise SystemExit(1)")
    with dry_runs(config(images), "cpu") as ask:
        assert "ended without an answer" in ask(None)["fault"]


def test_memory_is_counted_in_bytes():
    assert [bytes_of(text) for text in ("4GiB", "500MB", "1.5 kib")] == [4 * GIB, 5 * 10**8, 1536]
    assert 0 < available() < 2**50
    assert extrapolated({1: 10, 2: 14}, 4) == 22 and extrapolated({2: 14}, 4) == 0


@pytest.mark.parametrize("value", [0, -1, True, math.nan, 2.5, "most", [8], None])
def test_other_values_are_refused(value, images):
    with pytest.raises(UserError, match=r"train_dataloader.batch_size is .*; allowed: integers from 1 up, auto"):
        config(images, batch_size=value)


@pytest.mark.parametrize("value", [0, "0GiB", "0.1B", f"{'9' * 400}GiB", "many", "4", True, [1]])
def test_other_budgets_are_refused(value, images):
    with pytest.raises(UserError, match=r"memory_budget=.*; allowed: a size above 0, such as 4GiB or 500MB"):
        config(images, batch_size="auto", memory_budget=value)


def test_a_budget_without_auto_is_said_to_have_no_effect(images, capsys):
    settle_batch_size(config(images, batch_size=2, memory_budget="4GiB"), "cpu")
    said = capsys.readouterr().err
    assert said == "note: memory_budget has no effect, since train_dataloader.batch_size is 2\n"


def test_both_ways_to_say_it(images):
    for name in ("batch_size", "train_dataloader.batch_size"):
        cfg = config(images, **{name: "auto"})
        assert cfg.train_dataloader.batch_size == "auto" and cfg.auto_scale_lr.enable
    assert not config(images, **{"batch_size": "auto", "auto_scale_lr.enable": False}).auto_scale_lr.enable
    assert load_config(RETINANET, {"batch_size": "auto"}).auto_scale_lr.enable
    assert load_config(RETINANET, {"batch_size": 3}).train_dataloader.batch_size == 3


def test_a_number_that_is_typed_counts(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(f'_base_ = "{RETINANET}"\nbatch_size = "auto"\n')
    assert load_config(path).train_dataloader.batch_size == "auto"
    for name in ("batch_size", "train_dataloader.batch_size"):
        cfg = load_config(path, {name: 3})
        complete(cfg)
        assert cfg.train_dataloader.batch_size == 3
