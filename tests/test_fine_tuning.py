"""Training from weights of other classes, at another size, and with another number of images per step."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import train as train_tool
from helpers import run
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from PIL import Image

from backbones import UserError
from backbones.weights import read_checkpoint
from classification import Classifier, create_classifier
from classification.class_maps import class_rows, imagenet_1k_rows
from ziggurat.engine.checkpoints import load_state
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_testing, build_training

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "classification/configs/demo/van_b0_digits.py"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                Image.fromarray(pixels.integers(0, 256, (32, 32, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


def tiny(images, **options):
    """One epoch of four batches of 2, without augmentation."""
    options = {
        "data_root": str(images),
        "train_cfg.max_epochs": 1,
        "train_dataloader.batch_size": 2,
        "train_dataloader.num_workers": 0,
        "train_dataloader.dataset.transform": dict(_delete_=True, is_training=False, input_size=32, crop_pct=1.0),
        "val_dataloader.dataset.transform": dict(_delete_=True, is_training=False, input_size=32, crop_pct=1.0),
        "param_scheduler": [],
        **options,
    }
    return load_config(DEMO, options)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """The weights of a classifier of five classes."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("five") / "five.pth"
    torch.save({"state_dict": create_classifier("van_b0", num_classes=5).state_dict()}, path)
    return path


def classifier(weights, **arguments):
    torch.manual_seed(2)
    clf = Classifier(dict(type="VAN", arch="van_b0", pretrained=str(weights)), **arguments)
    fresh = {name: value.clone() for name, value in clf.state_dict().items()}
    clf.init_weights()
    return clf, fresh


def test_a_head_of_other_classes_is_an_error_that_says_both_numbers(five):
    with pytest.raises(UserError, match=r"five\.pth has a head of 5 classes, and the data have 3; add --reset-head"):
        classifier(five, num_classes=3)
    state = torch.load(five)["state_dict"]
    other = create_classifier("van_b0", num_classes=3)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(UserError, match=r"x\.pth has a head of 5 classes, and the data have 3; add --reset-head"):
        load_state(other, state, "x.pth", exact=False)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_head_of_as_many_other_classes_is_refused(images, tmp_path):
    """In a start from weights, in load_from, and where a run is resumed; --reset-head takes the backbone alone."""
    build_training(tiny(images), tmp_path / "first", device="cpu").train()
    other = tmp_path / "other"
    for split in ("train", "val"):
        for old, new in (("cat", "yak"), ("dog", "zebra")):
            shutil.copytree(images / split / old, other / split / new)
    saved = str(tmp_path / "first/epoch_1.pth")
    message = (
        r"epoch_1\.pth has a head of other classes: its class 0 is 'cat', and the data's is 'yak'; add --reset-head"
    )
    for number, options in enumerate(({"model.backbone.pretrained": saved}, {"load_from": saved})):
        with pytest.raises(UserError, match=message):
            build_training(tiny(other, **options), tmp_path / str(number), device="cpu").train()
    with pytest.raises(UserError, match=message):
        build_training(tiny(other), tmp_path / "resumed", resume=saved, device="cpu").train()
    options = {"model.backbone.pretrained": saved, "model.reset_head": True}
    build_training(tiny(other, **options), tmp_path / "reset", device="cpu").train()


@pytest.mark.parametrize(
    ("last", "said"), [(2, "the run has 2 epochs, and its schedule ends after 1; the last rate then stays"), (1, "")]
)
def test_a_run_that_goes_on_after_its_schedule_says_so(images, tmp_path, capsys, last, said):
    """A warmup alone is no schedule that ends."""
    fall = dict(type="CosineAnnealingLR", T_max=1, begin=0, end=1, by_epoch=True)
    rise = dict(type="LinearLR", start_factor=0.1, begin=0, end=1, by_epoch=True)
    for i, schedule in enumerate(([fall], [rise])):
        options = {"param_scheduler": schedule, "train_cfg.max_epochs": last}
        build_training(tiny(images, **options), tmp_path / str(i), device="cpu").folder.release()
        expected = said if schedule == [fall] else ""
        assert ("its schedule ends" in (err := capsys.readouterr().err)) == bool(expected) and expected in err


def test_a_run_that_ends_before_its_schedule_says_so(images, tmp_path, capsys):
    options = {"param_scheduler": dict(_delete_=True, type="EpochCosineLR", epochs=30, warmup=2)}
    build_training(tiny(images, **options), tmp_path, device="cpu").folder.release()
    assert (
        "the run ends after 1 of the 30 epochs of its schedule; set param_scheduler.epochs=1" in capsys.readouterr().err
    )


def test_a_map_and_a_new_head_exclude_each_other():
    with pytest.raises(UserError, match="class_map='imagenet1k' and reset_head exclude each other"):
        Classifier(dict(type="VAN", arch="van_b0"), class_map="imagenet1k", reset_head=True)


@pytest.mark.parametrize("num_classes", [3, 5])
def test_a_reset_head_is_new_and_the_backbone_is_the_weights(five, num_classes):
    stored = torch.load(five)["state_dict"]
    clf, fresh = classifier(five, num_classes=num_classes, reset_head=True)
    for name, value in clf.state_dict().items():
        assert torch.equal(value, (fresh if name.startswith("head.") else stored)[name]), name
    other, fresh = classifier(five, num_classes=num_classes, reset_head=True)
    other.backbone.stem.conv.weight.data.zero_()
    assert "2 missing (head.fc.weight, head.fc.bias)" in load_state(other, stored, "x.pth", exact=False)
    for name, value in other.state_dict().items():
        assert torch.equal(value, (fresh if name.startswith("head.") else stored)[name]), name


def test_the_scale_of_a_new_head(five):
    plain, _ = classifier(five, num_classes=3, reset_head=True)
    small, _ = classifier(five, num_classes=3, reset_head=True, head_init_scale=0.001)
    torch.testing.assert_close(small.head.fc.weight, plain.head.fc.weight * 0.001, rtol=1e-6, atol=0)
    with pytest.raises(UserError, match="head_init_scale is 0; allowed: numbers above 0"):
        Classifier(dict(type="VAN", arch="van_b0"), head_init_scale=0)


def test_rows_of_the_1000_classes_are_hornets():
    """The file holds in1k_to_21k_map.pth of raoyongming/HorNet@ac9e210."""
    published = [int(row) for row in (ROOT / "tests/data/hornet_in1k_rows.txt").read_text().split()]
    assert class_rows("imagenet1k", 10459, 1000, "weights") == published


def test_known_class_maps_name_each_class_once():
    for rows, taken in imagenet_1k_rows().items():
        there = [row for row in taken if row is not None]
        assert len(taken) == 1000 and len(set(there)) == len(there) >= 999 and max(there) < rows
    assert imagenet_1k_rows()[21842] == list(range(1000))  # Microsoft's order begins with these classes


def test_a_class_map_picks_rows(five, tmp_path):
    stored = torch.load(five)["state_dict"]
    rows = tmp_path / "rows.txt"
    rows.write_text("4\n0\n2\n")
    clf, _ = classifier(five, num_classes=3, class_map=str(rows))
    assert torch.equal(clf.head.fc.weight, stored["head.fc.weight"][[4, 0, 2]])
    assert torch.equal(clf.head.fc.bias, stored["head.fc.bias"][[4, 0, 2]])
    assert torch.equal(clf.backbone.stem.conv.weight, stored["backbone.stem.conv.weight"])


def test_a_class_that_the_old_head_lacks_starts_fresh(tmp_path):
    """The teddy bear is class 850 of ImageNet-1K, and not in the 21841 classes of 2011."""
    state = create_classifier("pvig_tiny", num_classes=2).state_dict()
    state["head.fc2.weight"] = torch.arange(21841.0)[:, None].expand(-1, 1024)
    state["head.fc2.bias"] = torch.arange(21841.0)
    clf = create_classifier("pvig_tiny", num_classes=1000)
    clf.class_map = "imagenet1k"
    fresh = clf.head.fc2.weight[850].clone()
    with pytest.warns(UserWarning, match=r"no row for 1 of 1000 classes \(index 850\), which start fresh"):
        load_state(clf, state, "x.pth", exact=False)
    rows = imagenet_1k_rows()[21841]
    assert rows[850] is None and torch.equal(clf.head.fc2.weight[850], fresh)
    others = [index for index in range(1000) if index != 850]
    assert clf.head.fc2.bias[others].tolist() == [rows[index] for index in others]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such class map: 'rows.txt'; allowed: 'imagenet1k', a text file"),
        ("0 1 x", "class map rows.txt: .*'x'; allowed: a row number on each line"),
        ("0 1", "class_map='rows.txt' is for 2 classes, and the model has 3"),
        ("0 1 5", "class_map='rows.txt' names row 5; allowed: 0 to 4, the rows of five"),
    ],
)
def test_bad_class_maps(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("rows.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        class_rows("rows.txt", 5, 3, "five")


def test_the_known_map_is_offered_where_it_fits():
    state = create_classifier("van_b0", num_classes=2).state_dict()
    state["head.fc.weight"], state["head.fc.bias"] = torch.zeros(10459, 256), torch.zeros(10459)
    with pytest.raises(UserError, match=r"or model\.class_map=imagenet1k to keep the rows"):
        load_state(create_classifier("van_b0"), state, "x.pth", exact=False)
    clf = create_classifier("van_b0", num_classes=3)
    clf.class_map = "imagenet1k"
    with pytest.raises(UserError, match="is for 1000 classes, and the model has 3"):
        load_state(clf, state, "x.pth", exact=False)
    state["head.fc.weight"] = torch.zeros(12, 256)
    with pytest.raises(UserError, match=r"knows heads of 10459, 21841, 21842 classes, and x\.pth has 12"):
        load_state(clf, state, "x.pth", exact=False)


def test_reset_head_on_the_command_line(images, five, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [DEMO, "--work-dir", tmp_path / "run", "--device", "cpu", "--cfg-options", f"data_root={images}"]
    argv += [f"model.backbone.pretrained={five}", "train_dataloader.batch_size=2", "train_cfg.max_epochs=1"]
    status, _, err = run(train_tool, argv, monkeypatch, capsys)
    assert status == 2 and "has a head of 5 classes, and the data have 2; add --reset-head" in err
    status, _, err = run(train_tool, [*argv, "--reset-head", "--overwrite"], monkeypatch, capsys)
    assert status == 0, err


def test_one_option_sets_the_size_of_all_crops(images):
    cfg = load_config(DEMO, {"data_root": str(images), "input_size": 64})
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [loader.dataset.transform.input_size for loader in loaders] == [64, 64, 64]
    with pytest.raises(UserError, match="input_size is 16; allowed: integers from 32 up"):
        load_config(DEMO, {"data_root": str(images), "input_size": 16})


@pytest.mark.parametrize(("counts", "images_per_step"), [(1, 2), (4, 8)])
def test_the_rate_follows_the_images_per_step(images, tmp_path, capsys, counts, images_per_step):
    options = {"optim_wrapper.optimizer.lr": 1e-3, "auto_scale_lr.base_batch_size": 1024}
    cfg = tiny(images, **{**options, "optim_wrapper.accumulative_counts": counts})
    runner = build_training(cfg, tmp_path, device="cpu")
    rate = 1e-3 * images_per_step / 1024
    assert {group["lr"] for group in runner.optim_wrapper.optimizer.param_groups} == {rate}
    assert runner.optim_wrapper.optimizer.defaults["lr"] == rate
    assert f"note: lr 0.001 x {images_per_step}/1024 images per step = {rate:.3g}" in capsys.readouterr().err
    assert runner.cfg.optim_wrapper.optimizer.lr == 1e-3  # a run of the dumped config is scaled again


def test_the_rate_of_the_configs_own_batch_stays(images, tmp_path, capsys):
    runner = build_training(tiny(images, **{"auto_scale_lr.base_batch_size": 2}), tmp_path / "a", device="cpu")
    assert runner.optim_wrapper.optimizer.param_groups[0]["lr"] == 3e-3
    runner.folder.release()
    runner = build_training(tiny(images, **{"auto_scale_lr.enable": False}), tmp_path / "b", device="cpu")
    assert runner.optim_wrapper.optimizer.param_groups[0]["lr"] == 3e-3
    assert "images per step" not in capsys.readouterr().err


def test_a_rate_that_cannot_be_scaled(images, tmp_path):
    with pytest.raises(UserError, match=r"base_batch_size is None; allowed: integers from 1 up"):
        build_training(tiny(images, **{"auto_scale_lr.base_batch_size": None}), tmp_path, device="cpu")


@METRICS.register_module(force=True)
class MeanScore(BaseMetric):
    """The sum of the first class's scores: another number for all other weights."""

    def process(self, data_batch, data_samples):
        self.results += [float(sample["scores"][0]) for sample in data_samples]

    def compute_metrics(self, results):
        return {"score": sum(results)}


def test_averaged_and_trained_weights_are_tested_and_kept(images, tmp_path):
    """Each set of weights, taken out of the checkpoint and tested alone, has the metrics that training reported."""
    options = {
        "val_evaluator": dict(_delete_=True, type="MeanScore"),
        "custom_hooks": [
            dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.1, update_buffers=True),
            dict(type="RawMetricsHook"),
        ],
        "default_hooks.checkpoint": dict(interval=1, save_best="score", rule="greater"),
        "optim_wrapper.optimizer.lr": 0.02,
        "auto_scale_lr.enable": False,
    }
    cfg = tiny(images, **options)
    build_training(cfg, tmp_path, device="cpu").train()
    reported = json.loads(next(tmp_path.glob("*/vis_data/scalars.json")).read_text().splitlines()[-1])
    content = read_checkpoint(tmp_path / "epoch_1.pth")
    raw = {k.removeprefix("module."): v for k, v in content["ema_state_dict"].items() if k.startswith("module.")}
    torch.save({**content, "state_dict": raw}, tmp_path / "raw.pth")
    averaged = build_testing(cfg, tmp_path / "epoch_1.pth", tmp_path / "a", device="cpu").test()["score"]
    trained = build_testing(cfg, tmp_path / "raw.pth", tmp_path / "b", device="cpu").test()["score"]
    assert averaged != trained
    assert reported["score"] == pytest.approx(averaged, rel=1e-6)
    assert reported["raw_score"] == pytest.approx(trained, rel=1e-6)

    # The summary in the work dir has both, too.
    with Image.open(tmp_path / "summary.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
    text = (tmp_path / "summary.html").read_text()
    assert "<title>van_b0_digits</title>" in text and "1 of 1 epochs" in text
    for name in ("score", "raw_score"):
        assert f"<tr><td>{name}</td><td>{reported[name]:.4g}</td>" in text


def test_averages_and_schedules_count_optimiser_steps():
    cfg = load_config(ROOT / "classification/configs/hornet/hornet_small_7x7_32xb64_in1k.py")
    assert cfg.param_scheduler.accumulative_counts == cfg.custom_hooks[0].interval == 2
    path = ROOT / "classification/configs/hornet/hornet_small_7x7_32xb64_in1k.py"
    cfg = load_config(path, {"optim_wrapper.accumulative_counts": 4})
    assert cfg.param_scheduler.accumulative_counts == cfg.custom_hooks[0].interval == 4


def test_the_recipe_of_fine_tuning_takes_any_arch_and_data(images, five, tmp_path):
    """The leaf for CIFAR-100, with options alone, trains on two class folders from weights of five classes."""
    options = {
        "data_root": str(images),
        "data_format": "folders",
        "model.backbone.arch": "van_b0",
        "model.backbone.pretrained": str(five),
        "input_size": 32,
        "train_cfg.max_epochs": 1,
        "train_dataloader.batch_size": 4,
    }
    for loader in ("train_dataloader", "val_dataloader"):
        options |= {f"{loader}.num_workers": 0, f"{loader}.persistent_workers": False}
    leaf = ROOT / "classification/configs/van/van_b2_8xb64_fine_tune_cifar100.py"
    runner = build_training(load_config(leaf, options), tmp_path, device="cpu")
    rates = [group["initial_lr"] for group in runner.optim_wrapper.optimizer.param_groups]
    assert max(rates) == pytest.approx(2e-4 * 4 / 512) and min(rates) < max(rates) / 10
    runner.train()
    trained, old = (read_checkpoint(path)["state_dict"] for path in (tmp_path / "epoch_1.pth", five))
    assert trained["head.fc.weight"].shape[0] == 2
    change = [(trained[name] - old[name]).abs().max() for name in old if "stages" in name and name.endswith("weight")]
    assert 0 < max(change) < 1e-2
