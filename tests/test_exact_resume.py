"""A resumed training is the uninterrupted one, bit for bit, in the middle of an epoch too; two processes are one.

With shuffling, RandAugment, mixup, random erasing, drop path, averaged weights and loader workers.
"""

import copy
import json
import math
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import train as train_tool
from dense_data import write_masks
from helpers import Losses, run, same
from mmengine.registry import MODELS
from paper_run import EPOCH, RECIPE, options_for
from torch.utils.data import DataLoader, SequentialSampler

from backbones import UserError
from classification import Classifier
from classification.samplers import RepeatAugmentation
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training, replay
from ziggurat.engine.seeding import SampleIndex, SeededBatches, seed_of, with_seeded_items

ROOT = Path(__file__).resolve().parent.parent


pytestmark = pytest.mark.usefixtures("shallow_van")


def train(noise_images, work_dir, resume=None, keep_schedule=False, **options):
    """The losses of a training, and its last checkpoint."""
    cfg = load_config(RECIPE, options_for(noise_images, **options))
    runner = build_training(cfg, work_dir, resume=resume, device="cpu", keep_schedule=keep_schedule)
    runner.train()
    losses = next(hook.values for hook in runner.hooks if isinstance(hook, Losses))
    last = sorted(Path(work_dir).glob("iter_*.pth"), key=lambda path: int(path.stem[5:]))[-1]
    return losses, torch.load(last, weights_only=True)


@pytest.fixture(scope="module")
def straight(noise_images, shallow_van, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return (*train(noise_images, folder), folder)


@pytest.mark.parametrize(("steps", "workers"), [(4, 2), (8, 0)])
def test_a_resumed_run_is_the_uninterrupted_one(noise_images, straight, tmp_path, steps, workers):
    """From the middle of the first and of the second epoch; the number of workers does not matter."""
    losses, last, folder = straight
    assert len(losses) == 2 * EPOCH and len(set(losses)) == 2 * EPOCH
    again, ours = train(noise_images, tmp_path, resume=folder / f"iter_{steps}.pth", workers=workers)
    assert again == losses[steps:]
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        same(ours[part], last[part], part)


def test_a_run_goes_on_at_the_same_image_with_batches_of_another_size(noise_images, straight, tmp_path, capsys):
    """After an epoch the next epoch is whole. After four of six batches of 2, one batch of 4 is left."""
    folder = straight[2]
    options = {"train_dataloader.batch_size": 4}
    with pytest.raises(
        UserError,
        match=r"^--resume of iter_4.pth: a batch of all processes has 4 images and had 2; "
        r"train_dataloader.batch_size=2 keeps the batch, --keep-schedule goes on with the old schedule, which counts "
        r"steps, and "
        r"--cfg-options load_from=\S+iter_4.pth starts a new run from these weights$",
    ):
        train(noise_images, tmp_path / "middle", resume=folder / "iter_4.pth", **options)
    losses, last = train(noise_images, tmp_path / "middle", folder / "iter_4.pth", keep_schedule=True, **options)
    assert len(losses) == 1 + 3 and last["meta"]["epoch"] == 1
    said = capsys.readouterr()
    assert "training for 4 iterations" in said.out
    assert "note: a batch of all processes has 4 images and had 2; the schedule still counts" in said.err
    options |= {"default_hooks.checkpoint": dict(by_epoch=True, interval=1, max_keep_ckpts=-1, save_best=None)}
    first = tmp_path / "first"
    build_training(
        load_config(RECIPE, options_for(noise_images, **options | {"train_dataloader.batch_size": 2})), first
    ).train()
    cfg = load_config(RECIPE, options_for(noise_images, **options))
    runner = build_training(cfg, tmp_path / "second", resume=first / "epoch_1.pth", device="cpu", keep_schedule=True)
    capsys.readouterr()
    runner.train()
    assert len(next(hook.values for hook in runner.hooks if isinstance(hook, Losses))) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("training for 3 iterations") and lines[-2].endswith("eta 0:00")


CHANGES = {
    "train_cfg.max_epochs": (4, "train_cfg.max_epochs is 4 and was 2"),
    "param_scheduler": (dict(epochs=3, warmup=1), "param_scheduler.epochs is 3 and was 2"),
    "optim_wrapper.optimizer.lr": (0.5, "optim_wrapper.optimizer.lr is 0.5 and was 0.0005"),
    "optim_wrapper.optimizer.weight_decay": (0.5, "optim_wrapper.optimizer.weight_decay is 0.5 and was 0.05"),
    "optim_wrapper.accumulative_counts": (2, "optim_wrapper.accumulative_counts is 2 and was None"),
    "auto_scale_lr.enable": (True, "auto_scale_lr.enable is True and was False"),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_change_that_resuming_would_pass_over_is_an_error(noise_images, straight, tmp_path, capsys, changed):
    losses, last, folder = straight
    value, said = CHANGES[changed]
    options = dict(resume=folder / "iter_8.pth", workers=0, **{changed: value})
    with pytest.raises(UserError, match=rf"^--resume of iter_8.pth: .*{re.escape(said)}.*; --keep-schedule goes on"):
        train(noise_images, tmp_path, **copy.deepcopy(options))
    assert not list(tmp_path.glob("*.p*"))  # neither a checkpoint nor a config
    if changed == "auto_scale_lr.enable":
        return
    again, ours = train(noise_images, tmp_path, keep_schedule=True, **options)
    assert again == losses[8:] and f"the checkpoint's values are kept: {said}" in capsys.readouterr().err
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        same(ours[part], last[part], part)


def test_a_limit_of_gradients_that_the_config_gave_up_does_not_come_back(noise_images, straight, tmp_path):
    """The other way round, ``--keep-schedule`` keeps a limit that the config alone has."""
    path = straight[2] / "iter_8.pth"
    clipped = load_config(RECIPE, options_for(noise_images, **{"optim_wrapper.clip_grad": dict(max_norm=0.1)}))
    build_training(clipped, tmp_path / "clipped", path, device="cpu").train()
    saved = tmp_path / "clipped/iter_12.pth"
    for limit in ({}, {"optim_wrapper.clip_grad": dict(max_norm=0.5)}):
        options = options_for(noise_images, **{"train_cfg.max_epochs": 3, **limit})
        cfg, work_dir = load_config(RECIPE, options), tmp_path / str(len(limit))
        kept = build_training(cfg, work_dir, saved, device="cpu", keep_schedule=True).cfg
        expected = limit.get("optim_wrapper.clip_grad")
        assert kept.optim_wrapper.get("clip_grad") == expected and kept.train_cfg.max_epochs == 2


def test_a_checkpoint_of_another_kind_of_run_is_named(noise_images, straight, tmp_path):
    path = straight[2] / "iter_8.pth"
    segmenter = ROOT / "segmentation/configs/demo/semantic_fpn_van_b0_digits.py"
    data = {"data_root": str(write_masks(tmp_path / "data")), "classes": None}
    loop = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=9)
    for keep in (False, True):
        with pytest.raises(UserError, match=r"^--resume of iter_8.pth: it is of a run of classification, and"):
            build_training(load_config(segmenter, dict(data)), tmp_path / "run", path, device="cpu", keep_schedule=keep)
        with pytest.raises(UserError, match=r"has train_cfg.max_iters, and the checkpoint's run had max_epochs"):
            options = {"train_cfg": dict(loop), "param_scheduler": []}
            train(noise_images, tmp_path / "run", path, keep, **options)


def test_what_takes_effect_in_a_resumed_run_may_change(noise_images, straight, tmp_path, capsys):
    folder = straight[2]
    options = {"optim_wrapper.clip_grad": dict(max_norm=0.1), "train_cfg.val_interval": 7, "randomness.seed": 3}
    losses, _ = train(noise_images, tmp_path, folder / "iter_8.pth", workers=0, **options)
    assert losses[0] == straight[0][8] and losses[1:] != straight[0][9:]  # clipped from the first step on
    assert "note" not in capsys.readouterr().err


def test_other_training_data_are_noticed(noise_images, straight, tmp_path, capsys):
    folder, other = straight[2], tmp_path / "images"
    shutil.copytree(noise_images, other)
    train(other, tmp_path / "moved", folder / "iter_8.pth", workers=0)
    assert "note" not in capsys.readouterr().err
    (other / "train/cat/0.png").rename(other / "train/cat/7.png")
    train(other, tmp_path / "renamed", folder / "iter_8.pth", workers=0)
    said = "--resume of iter_8.pth: the training data have other files, annotations or classes than before"
    assert said in capsys.readouterr().err
    for name in ("8.png", "9.png"):
        shutil.copy(other / "train/cat/7.png", other / f"train/cat/{name}")
    with pytest.raises(UserError, match="an epoch has 14 images and had 12; --keep-schedule goes on with the old"):
        train(other, tmp_path / "longer", folder / "iter_8.pth", workers=0)


def test_another_seed_is_another_run(noise_images, straight, tmp_path):
    losses, _ = train(noise_images, tmp_path, workers=0, **{"randomness.seed": 1, "train_cfg.max_epochs": 1})
    assert not set(losses) & set(straight[0])


def test_iterations_over_several_epochs_resume_exactly(noise_images, tmp_path):
    """Of a sampler that ends: the tenth batch is the fourth of the second epoch."""
    options = {
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=12),
        "param_scheduler": [],
        "log_processor.by_epoch": False,
        "default_hooks.checkpoint": dict(by_epoch=False, interval=10, max_keep_ckpts=-1, save_best=None),
    }
    losses, last = train(noise_images, tmp_path / "straight", **copy.deepcopy(options))
    again, ours = train(noise_images, tmp_path / "resumed", resume=tmp_path / "straight/iter_10.pth", **options)
    assert again == losses[10:]
    same(ours["state_dict"], last["state_dict"])


def test_the_log_goes_on_with_the_same_means(noise_images, tmp_path):
    """Over the last five losses, of which some are those before the checkpoint."""
    options = {"default_hooks.logger.interval": 1, "log_processor.window_size": 5}

    def lines(work_dir):
        (path,) = work_dir.glob("*/vis_data/scalars.json")
        return [{name: line[name] for name in ("step", "loss", "lr")} for line in map(json.loads, path.open())]

    train(noise_images, tmp_path / "straight", workers=0, **options)
    train(noise_images, tmp_path / "resumed", resume=tmp_path / "straight/iter_8.pth", workers=0, **options)
    assert lines(tmp_path / "resumed") == lines(tmp_path / "straight")[8:]


def test_a_step_of_several_batches_resumes_in_its_midst(noise_images, tmp_path):
    """Steps of four batches; the checkpoint comes after six, and the epoch ends there too."""
    options = {
        "optim_wrapper.accumulative_counts": 4,
        "default_hooks.checkpoint": dict(by_epoch=False, interval=6, max_keep_ckpts=-1, save_best=None),
    }
    losses, last = train(noise_images, tmp_path / "straight", workers=0, **copy.deepcopy(options))
    resume = tmp_path / "straight/iter_6.pth"
    assert "gradients" in torch.load(resume, weights_only=True) and "gradients" not in last
    again, ours = train(noise_images, tmp_path / "resumed", resume=resume, workers=0, **options)
    assert again == losses[6:]
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        same(ours[part], last[part], part)


class Numbers:
    """A data set whose items are random numbers of every kind."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return int(index), random.random(), np.random.rand(), torch.rand(()).item()


def loaded(workers=0, skip=0, epochs=1):
    dataset = with_seeded_items(Numbers())
    batches = SeededBatches(SequentialSampler(dataset), 2)
    batches.seed, batches.skip = 7, skip
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers)
    return [[column.tolist() for column in batch] for _ in range(epochs) for batch in loader]


def test_items_depend_on_their_place_alone():
    whole = loaded()
    assert len(whole) == 5 and whole[-1][0] == [8]
    assert loaded(workers=2) == whole
    assert loaded(skip=3) == whole[3:]
    assert loaded(skip=7, epochs=2) == whole[2:]  # the first epoch and two batches of the second
    assert len({value for batch in whole for column in batch[1:] for value in column}) == 27


def test_indices_and_data_sets_survive_pickling():
    index = pickle.loads(pickle.dumps(SampleIndex(3, 5)))
    assert (index, index.seed) == (3, 5)
    dataset = with_seeded_items(Numbers())
    again = pickle.loads(pickle.dumps(dataset))
    assert isinstance(again, Numbers) and type(dataset).__name__ == "Numbers"
    assert again[index] == dataset[index] != dataset[SampleIndex(3, 6)]


def test_seeds_of_neighbours_differ():
    seeds = [seed_of(seed, epoch, place) for seed in range(3) for epoch in range(3) for place in range(1000)]
    assert len(set(seeds)) > 8995 and min(seeds) < 2**24 and max(seeds) > 2**32 - 2**24


@pytest.mark.parametrize("images_there", [7, 255, 600])
def test_repeated_augmentation_of_few_images(images_there):
    """DeiT rounds an epoch down to a multiple of 256 images, which leaves nothing of fewer images."""
    sampler = RepeatAugmentation(list(range(images_there)))
    assert len(list(sampler)) == len(sampler) == (images_there if images_there < 256 else 512)


SAVED = """
import json, os
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from backbones import VAN

VAN.ARCHS["van_b0"] = VAN.ARCHS["van_b0"]._replace(depths=(1, 1, 1, 1))

@HOOKS.register_module()
class Losses(Hook):
    values = []
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.values.append(outputs["loss"].item())
    def after_train(self, runner):
        with open(os.environ["ANSWERS"] + f"/{get_rank()}.json", "w") as file:
            json.dump(self.values, file)
"""


def test_two_processes_are_one_and_go_on_as_one(noise_images, tmp_path, capfd):
    """With batch norm in eval mode, the same images a step and no randomness in the step itself."""
    (tmp_path / "losses.py").write_text(SAVED)
    options = options_for(noise_images, workers=0) | {
        "model.backbone.drop_path_rate": 0.0,
        "model.backbone.norm_eval": True,
        "model.mixup": None,
        "model.data_preprocessor.random_erasing": None,
        "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=20),
        "train_dataloader.sampler": dict(type="InfiniteSampler"),  # mmengine waits two seconds between epochs
        "param_scheduler": [],
        "log_processor.by_epoch": False,
        "auto_scale_lr.enable": True,
        "default_hooks.checkpoint": dict(by_epoch=False, interval=10, max_keep_ckpts=-1, save_best=None),
    }
    cfg = load_config(RECIPE, copy.deepcopy(options))
    cfg.custom_imports.imports.append("losses")
    cfg.dump(tmp_path / "config.py")
    losses = {}
    for processes, batch in ((1, 4), (2, 2)):
        answers = tmp_path / str(processes)
        answers.mkdir()
        command = [sys.executable, str(ROOT / "tools/launch/launch.py"), str(processes), str(ROOT / "tools/train.py")]
        command += [str(tmp_path / "config.py"), "--launcher", "pytorch", "--device", "cpu", "--work-dir"]
        command += [str(answers / "run"), "--cfg-options", f"train_dataloader.batch_size={batch}"]
        paths = os.pathsep.join([str(ROOT), str(tmp_path)])
        subprocess.run(command, check=True, env=dict(os.environ, ANSWERS=str(answers), PYTHONPATH=paths))
        every = [json.loads((answers / f"{rank}.json").read_text()) for rank in range(processes)]
        losses[processes] = np.mean(every, axis=0)
    assert len(losses[1]) == 20 and losses[1].std() > 1e-3
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-5)
    alone = load_config(RECIPE, options | {"train_dataloader.batch_size": 4})
    again = build_training(alone, tmp_path / "alone", resume=tmp_path / "2/run/iter_10.pth", device="cpu")
    again.train()
    found = next(hook.values for hook in again.hooks if isinstance(hook, Losses))
    np.testing.assert_allclose(found, losses[1][10:], rtol=1e-5)
    assert "the number of processes is 1 and was 2; same next image" in capfd.readouterr().err


@MODELS.register_module(force=True)
class Breaks(Classifier):
    """A classifier whose loss is not a number where the sum of the images says so."""

    def loss(self, inputs, labels):
        loss = super().loss(inputs, labels)
        Breaks.sums.append(inputs.sum().item())
        return loss * float("nan") if Breaks.sums[-1] == Breaks.bad else loss

    sums, bad = [], None


def test_a_loss_that_is_not_finite_stops_the_run_and_can_be_shown_again(noise_images, tmp_path, monkeypatch, capsys):
    """Of the sixth step. The file is a checkpoint of the moment before, and the last good checkpoint stays."""
    options = options_for(noise_images, workers=0) | {"model.type": "Breaks"}
    cfg = load_config(RECIPE, options)
    build_training(cfg, tmp_path / "whole", device="cpu").train()
    Breaks.bad = Breaks.sums[5]
    work_dir = tmp_path / "run"
    with pytest.raises(UserError, match=r"the loss of iteration 6 is nan; .*non_finite_iter_6\.pth.*--replay"):
        build_training(cfg, work_dir, device="cpu").train()
    assert (work_dir / "last_checkpoint").read_text().endswith("iter_4.pth")
    path = work_dir / "non_finite_iter_6.pth"
    content = torch.load(path, weights_only=True)
    assert content["failed_step"]["batch"]["inputs"].shape == (2, 3, 32, 32)
    assert all(value.isfinite().all() for value in content["state_dict"].values())

    argv = [RECIPE, "--replay", path, "--device", "cpu", "--cfg-options"]
    argv += [f"{key}={value}" for key, value in options.items() if not isinstance(value, dict)]
    argv += ["param_scheduler.epochs=2", "param_scheduler.warmup=1"]
    status, out, err = run(train_tool, argv, monkeypatch, capsys)
    assert status == 0 and out.splitlines()[-1] == f"{path}: the loss is nan", err
    Breaks.bad = None
    assert math.isfinite(replay(cfg, work_dir / "iter_4.pth", device="cpu"))
    with pytest.raises(UserError, match=r"iter_12\.pth is the end of its training"):
        replay(cfg, tmp_path / "whole/iter_12.pth", device="cpu")
