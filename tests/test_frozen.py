"""Frozen features: their file and what it holds, nearest neighbours, linear probes, and the two tools."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import knn as knn_tool
import linear_probe as probe_tool
import numpy as np
import pytest
import torch
from helpers import run
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.neighbors import KNeighborsClassifier
from torch.utils._python_dispatch import TorchDispatchMode

from backbones import FeatureExtractor, UserError, create_backbone
from backbones.pooling import pooled
from backbones.weights import own_meta, save_safely
from classification.frozen import extract, splits
from classification.frozen.cache import Split, read_features, writing
from classification.frozen.extract import features_of
from classification.frozen.knn import knn, votes
from classification.frozen.logistic import logistic_regression
from classification.frozen.probe import Scale, batches, check_grid, hold_out, linear_probe, scale_of, train_grid
from classification.frozen.source import Source
from ziggurat.engine.config import load_config

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "classification/configs/demo/van_b0_digits.py"
SMALL = ["--input-size", 32, "--workers", 0, "--batch-size", 4, "--device", "cpu"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Three classes of noise: 13 images to train, 7 to test."""
    root, pixels = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, counts in (("train", (5, 4, 4)), ("val", (2, 2, 3))):
        for name, count in zip(("ant", "bee", "cow"), counts):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(pixels.integers(0, 256, (40, 50, 3), np.uint8))
                image.save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def copied(digits, tmp_path):
    """A copy of the images, to change."""
    return Path(shutil.copytree(digits, tmp_path / "copy"))


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """The file of their features from stages 2 and 3."""
    path = tmp_path_factory.mktemp("made") / "f.safetensors"
    features_of(small(digits), path)
    return path


@pytest.fixture(scope="module")
def blobs():
    """Features of 4 classes that overlap: 90 to train, 41 to test, 12 numbers each, not centred."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(4, 12))

    def split(count):
        labels = np.arange(count) % 4
        features = 3 + centres[labels] + 1.2 * random.normal(size=(count, 12))
        return Split(features.astype(np.float32), labels.astype(np.int64))

    return split(90), split(41)


def small(data, model="van_b0", **options):
    return Source(model, data, **{"input_size": 32, "stages": (2, 3), **options})


# --- vectors


def test_pools_are_their_formulas():
    maps = [torch.randn(2, 3, 4, 5), torch.randn(2, 2, 2, 2)]
    means = [m.numpy().mean(axis=(2, 3)) for m in maps]
    np.testing.assert_allclose(pooled(maps, "mean"), np.concatenate(means, axis=1), rtol=1e-5, atol=1e-6)
    powers = [(np.maximum(m.double().numpy(), 1e-6) ** 3).mean(axis=(2, 3)) ** (1 / 3) for m in maps]
    np.testing.assert_allclose(pooled(maps, "gem"), np.concatenate(powers, axis=1), rtol=1e-5)


def test_features_are_those_of_the_transformed_files_in_order(digits, made):
    features = read_features(made)
    torch.manual_seed(0)
    extractor = FeatureExtractor("van_b0", (2, 3))
    for name, split in (("train", features.train), ("val", features.val)):
        paths = sorted((digits / name).rglob("*.png"))
        assert split.labels.tolist() == [("ant", "bee", "cow").index(path.parent.name) for path in paths]
        for path, vector in zip(paths, split.features, strict=True):
            image = Image.open(path).resize((45, 36), Image.Resampling.BICUBIC).crop((6, 2, 38, 34))
            expected = torch.cat([m.mean(dim=(2, 3))[0] for m in extractor(image)])
            np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    assert features.meta["stages"] == [2, 3] and features.train.features.shape == (13, 160 + 256)


def test_random_weights_follow_the_seed(digits):
    one, same, other = (small(digits, seed=seed).describe()["weights_sha256"] for seed in (0, 0, 1))
    assert one == same != other


def test_weights_bring_their_arch_transform_and_statistics(digits, tmp_path):
    cfg = load_config(DEMO)
    net = create_backbone("van_b0")
    own = own_meta(net, (0.4,) * 3, (0.2,) * 3, task="classification", config=cfg.to_dict())
    save_safely({"meta": {"ziggurat": own}, "state_dict": net.state_dict()}, tmp_path / "own.pth")
    source = Source(str(tmp_path / "own.pth"), digits)
    meta = source.describe()
    assert (meta["arch"], meta["mean"]) == ("van_b0", [0.4] * 3)
    assert meta["transform"] == {"input_size": 48, "crop_pct": 1.0, "interpolation": "bicubic"}
    assert source.splits["train"][0]["inputs"].shape == (3, 48, 48)
    summed = subprocess.run(["sha256sum", tmp_path / "own.pth"], capture_output=True, text=True).stdout
    assert meta["weights_sha256"] == summed.split()[0]
    assert Source(str(tmp_path / "own.pth"), digits, input_size=64).transform["input_size"] == 64
    save_safely({"state_dict": net.state_dict()}, tmp_path / "theirs.pth")
    assert Source(str(tmp_path / "theirs.pth"), digits).transform["crop_pct"] == 0.9  # VAN's authors evaluate so


def test_a_config_gives_its_data_both_with_the_test_transform(digits):
    source = Source("van_b0", DEMO, cfg_options=[f"data_root={digits}", "classes=[cow,ant]"])
    assert source.classes == ["cow", "ant"] and [len(split) for split in source.splits.values()] == [9, 5]
    assert source.transform["input_size"] == 48
    train = source.splits["train"]
    assert torch.equal(train[0]["inputs"], train[0]["inputs"])  # no augmentation
    assert train[0]["data_samples"] == 0 and "cow" in train.samples[0][0]


# --- the file


def test_the_file_is_a_whole_safetensors_file(digits, tmp_path):
    features = features_of(small(digits, pool="gem"), tmp_path / "f.safetensors", saved_in="float16", batch_size=5)
    arrays = load_file(tmp_path / "f.safetensors")
    assert set(arrays) == {"train_features", "train_labels", "val_features", "val_labels"}
    assert arrays["train_features"].dtype == np.float16
    np.testing.assert_array_equal(arrays["val_features"], features.val.features)
    meta = json.loads(json.dumps(features.meta))
    assert meta["pool"] == "gem" and meta["saved_in"] == "float16" and meta["weights"] == "random, seed 0"
    assert {"ziggurat", "torch", "timm"} == set(meta["versions"]) and meta["classes"] == ["ant", "bee", "cow"]


def test_a_stop_half_way_leaves_the_old_file(tmp_path):
    meta, path = {"splits": {name: {"images": 3} for name in ("train", "val")}}, tmp_path / "f.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), writing(path, meta, 2, np.dtype(np.float32)) as file:
        file.train.features[0] = 1
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room on disks")
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    meta, path = {"splits": {name: {"images": 2**20} for name in ("train", "val")}}, tmp_path / "f.safetensors"
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    message = r"32\.0 MiB of features do not fit .*No space left"
    with pytest.raises(UserError, match=message), writing(path, meta, 2, np.dtype(np.float32)):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["cut", "other", "text"])
def test_a_file_that_is_none_is_named(kind, made, tmp_path):
    path = tmp_path / "f.safetensors"
    if kind == "cut":
        path.write_bytes(made.read_bytes()[:-8])
    elif kind == "other":
        save_file({"x": np.zeros(3)}, path)
    else:
        path.write_text("no features")
    with pytest.raises(UserError, match=r"f\.safetensors"):
        read_features(path)


def test_the_same_things_are_not_computed_again(copied, made, monkeypatch):
    """The same files in another folder are the same things."""
    monkeypatch.setattr(extract, "fill", lambda *_: pytest.fail("computed again"))
    again = features_of(small(copied), made)
    np.testing.assert_array_equal(again.train.features, read_features(made).train.features)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(pool="gem"), "features of pool 'mean', and 'gem' is asked for"),
        (dict(stages=(3,)), r"stages \[2, 3\]"),
        (dict(seed=1), "weights_sha256"),
        (dict(crop_pct=1.0), "transform.crop_pct 0.875"),
        (dict(model="van_b1"), "arch 'van_b0'"),
        ("image", "splits.val.sha256"),
        ("file", "splits.train.images 13, and 14"),
    ],
)
def test_other_things_are_refused_and_written_only_on_demand(change, words, copied, made, tmp_path):
    path, before = tmp_path / "f.safetensors", made.read_bytes()
    path.write_bytes(before)
    if change == "image":
        Image.new("RGB", (40, 50)).save(copied / "val/bee/0.png")
    elif change == "file":
        Image.new("RGB", (40, 50)).save(copied / "train/bee/9.png")
    source = small(copied, **(change if isinstance(change, dict) else {}))
    with pytest.raises(UserError, match=words):
        features_of(source, path)
    assert path.read_bytes() == before
    features = features_of(source, path, overwrite=True)
    assert features.meta["splits"] == source.describe()["splits"]


def test_an_image_without_finite_features_is_named(digits, tmp_path, monkeypatch):
    source = small(digits)
    monkeypatch.setattr(source, "vectors", lambda images: torch.full((len(images), source.width), 1e6))
    with pytest.raises(UserError, match=r"ant.0\.png: its features are not finite in float16"):
        features_of(source, tmp_path / "f.safetensors", saved_in="float16")
    assert not list(tmp_path.iterdir())


def test_an_error_of_one_process_is_an_error_of_all(monkeypatch):
    monkeypatch.setattr(extract, "all_gather_object", lambda mine: [mine, "b.png is no image"])
    with pytest.raises(UserError, match=r"^b\.png is no image$"), extract.together():
        pass
    with pytest.raises(UserError, match=r"^a\.png is no image$"), extract.together():
        raise UserError("a.png is no image")


def test_two_processes_make_the_file_of_one(digits, made, tmp_path):
    """13 and 7 images over 2 processes: the shares differ in length, and the last batch is not full."""
    features = read_features(made)
    command = [sys.executable, ROOT / "tools/launch/launch.py", 2, ROOT / "tools/knn.py", "van_b0", digits, "--k", 3]
    command += [*SMALL[:2], "--stages", "2,3", "--workers", 1, "--batch-size", 3, "--device", "cpu"]
    command += ["--cache", tmp_path / "two.safetensors", "--out", tmp_path / "two.json"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1
    two = read_features(tmp_path / "two.safetensors")
    assert two.meta == features.meta
    for one, other in ((features.train, two.train), (features.val, two.val)):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.features, other.features, rtol=1e-4, atol=1e-5)
    rows = json.loads((tmp_path / "two.json").read_text())["results"]
    assert rows == knn(features.train, features.val, 3, (3,))


# --- nearest neighbours


def plain_knn(train, val, k, temperature):
    """Top-1 and top-5 in percent, image by image."""
    unit = [split.features / np.linalg.norm(split.features, axis=1, keepdims=True) for split in (train, val)]
    hits = np.zeros(2)
    for vector, label in zip(unit[1], val.labels, strict=True):
        similarities = unit[0] @ vector
        votes = {}
        for index in np.argsort(-similarities)[:k]:
            name = int(train.labels[index])
            votes[name] = votes.get(name, 0) + math.exp(similarities[index] / temperature)
        ranked = sorted(votes, key=lambda name: -votes[name])
        hits += [label == ranked[0], label in ranked[:5]]
    return list(100 * hits / len(val.labels))


@pytest.mark.numeric
@pytest.mark.parametrize("chunks", [(1024, 16384), (7, 11), (1, 1), (41, 90)])
def test_knn_is_the_plain_vote_for_any_chunks(blobs, chunks):
    for row in knn(*blobs, 4, (1, 5, 20, 90), chunks=chunks):
        assert [row["top1"], row["top5"]] == pytest.approx(plain_knn(*blobs, row["k"], 0.07)), row


@pytest.mark.parametrize("k", [1, 5, 20, 90])
def test_knn_is_scikit_learns_weighted_vote(blobs, k):
    train, val = blobs
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = 100 * theirs.fit(train.features, train.labels).score(val.features, val.labels)
    assert knn(train, val, 4, (k,))[0]["top1"] == pytest.approx(expected)


def test_a_class_without_a_vote_is_not_among_the_best():
    train = Split(np.eye(8, dtype=np.float32), np.arange(8))
    val = Split(np.eye(8, dtype=np.float32)[:1], np.array([3]))
    assert knn(train, val, 8, (1,)) == [{"k": 1, "top1": 0.0, "top5": 0.0}]
    shares = votes(torch.tensor([[0.9, 0.1]]), torch.tensor([[5, 5]]), 8, 0.07)
    assert shares[0].tolist() == pytest.approx([0] * 5 + [1] + [0] * 2)


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor of floats that an operation returns."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                self.size = max(self.size, value.numel())
        return out


def test_memory_of_knn_follows_the_chunks():
    random = np.random.default_rng(0)
    train, val = (Split(random.normal(size=(n, 4)).astype(np.float32), np.arange(n) % 3) for n in (900, 300))
    with Largest() as largest:
        knn(train, val, 3, (10,), chunks=(8, 32))
    assert 8 * 32 <= largest.size <= 8 * (32 + 10)


# --- linear probes


def test_a_tenth_of_each_class_is_held_out():
    labels = np.array([0] * 25 + [1] * 10 + [2] * 2 + [3])
    kept, held_out = hold_out(labels, 0)
    assert sorted([*kept, *held_out]) == list(range(38))
    assert np.bincount(labels[held_out], minlength=4).tolist() == [3, 1, 1, 0]
    assert not np.array_equal(held_out, hold_out(labels, 1)[1])
    with pytest.raises(UserError, match="one image of each class"):
        hold_out(np.arange(5), 0)


def test_features_are_scaled_by_mean_and_deviation_of_the_kept():
    features = 1000 + np.random.default_rng(0).normal(size=(9000, 3)) * [1, 5, 0]
    numbers = np.arange(0, 9000, 2)
    scale = scale_of(features, numbers, "cpu")
    np.testing.assert_allclose(scale.mean, features[numbers].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.std, [*features[numbers].std(axis=0)[:2], 1], rtol=1e-6)


@pytest.mark.numeric
def test_a_grid_trains_as_its_points_do_alone(blobs):
    """Against torch's SGD and cosine schedule, on the same batches, one layer at a time."""
    train, grid, numbers = blobs[0], [(0.01, 0.0), (0.5, 1e-2), (5.0, 0.0)], np.arange(1, 90)
    scale = Scale(torch.full((12,), 3.0), torch.full((12,), 2.0))
    weight, bias = train_grid(train, numbers, 4, grid, 3, 20, 7, scale)
    for (rate, decay), found_weight, found_bias in zip(grid, weight, bias, strict=True):
        random = torch.Generator().manual_seed(7)
        layer = torch.nn.Linear(12, 4)
        layer.weight.data = 0.01 * torch.randn(12, 4, generator=random).T
        layer.bias.data.zero_()
        groups = [{"params": [layer.weight], "weight_decay": decay}, {"params": [layer.bias]}]
        optimizer = torch.optim.SGD(groups, lr=rate * 20 / 256, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * 5)
        for batch in batches(numbers, 3, 20, random):
            x = (torch.from_numpy(train.features[batch]) - 3) / 2
            loss = torch.nn.functional.cross_entropy(layer(x), torch.from_numpy(train.labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        torch.testing.assert_close(found_weight, layer.weight.detach().T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found_bias[0], layer.bias.detach(), rtol=1e-4, atol=1e-5)


def test_every_epoch_shows_every_image_once():
    numbers = np.arange(3, 50, 2)
    parts = list(batches(numbers, 2, 10, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [10, 10, 4] * 2
    first, second = np.concatenate(parts[:3]), np.concatenate(parts[3:])
    assert sorted(first) == sorted(second) == numbers.tolist() and not np.array_equal(first, second)


def test_val_does_not_choose_the_rate(blobs):
    """With the labels of val changed, its figures change, and the chosen point does not."""
    train, val = blobs
    one = linear_probe(train, val, 4, (1e-4, 0.1), epochs=5)
    other = linear_probe(train, Split(val.features, (val.labels + 1) % 4), 4, (1e-4, 0.1), epochs=5)
    held_out = [point["held_out_top1"] for point in one["grid"]]
    assert one["best"]["held_out_top1"] == max(held_out) and one["images"] == {"train": 78, "held_out": 12}
    assert one["best"]["rate"] == other["best"]["rate"] and one["best"]["top1"] > other["best"]["top1"]


def test_a_rate_that_diverges_is_none_and_disturbs_no_other(blobs):
    alone = linear_probe(*blobs, 4, (0.1,), epochs=5)
    both = linear_probe(*blobs, 4, (1e38, 0.1), epochs=5)
    assert both["grid"][0]["held_out_top1"] is both["grid"][0]["top1"] is None
    assert both["best"] == alone["best"]
    with pytest.raises(UserError, match="every classifier diverged"):
        linear_probe(*blobs, 4, (1e38,), epochs=5)


def test_the_probe_is_about_as_good_as_logistic_regression(blobs):
    """Both separate what can be separated: the optimum is one, the ways to it differ by a few of 41 images."""
    probe = linear_probe(*blobs, 4, (0.01, 0.1, 1.0), epochs=60)
    theirs = logistic_regression(*blobs)
    assert probe["best"]["top1"] > 60
    assert probe["best"]["top1"] == pytest.approx(theirs["top1"], abs=300 / 41)


@pytest.mark.parametrize(("rates", "decays"), [((0.0,), (0.0,)), ((float("nan"),), (0.0,)), ((0.1,), (-1.0,))])
def test_wrong_grids_are_named(rates, decays):
    with pytest.raises(UserError, match="allowed: numbers"):
        check_grid(rates, decays)


# --- the tools


def test_a_check_without_scikit_learn_says_so_before_it_computes(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, out, err = run(probe_tool, ["van_b0", digits, *SMALL, "--check"], monkeypatch, capsys)
    assert (status, out) == (2, "") and "pip install scikit-learn" in err and err.count("\n") == 1


def test_both_tools_read_one_file_and_write_json(digits, tmp_path, monkeypatch, capsys):
    argv = ["van_b0", digits, *SMALL, "--cache", tmp_path / "f.safetensors", "--out"]
    status, out, err = run(knn_tool, [*argv, tmp_path / "knn.json", "--k", "1,13"], monkeypatch, capsys)
    assert status == 0, err
    written = (tmp_path / "f.safetensors").stat().st_mtime_ns
    rows = json.loads((tmp_path / "knn.json").read_text())
    assert [row["k"] for row in rows["results"]] == [1, 13] and rows["temperature"] == 0.07
    assert "13 train + 7 val images of 3 classes at 32 pixels, mean of stage 3, 256 features" in out
    options = ["--rates", "0.01,0.1", "--weight-decays", "0,0.1", "--epochs", 3, "--check"]
    status, out, err = run(probe_tool, [*argv, tmp_path / "probe.json", *options], monkeypatch, capsys)
    assert status == 0, err
    assert (tmp_path / "f.safetensors").stat().st_mtime_ns == written
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["features"] == rows["features"] and found["best"] in found["grid"] and len(found["grid"]) == 4
    assert f"{found['best']['top1']:.2f}" in out and 0 <= found["logistic_regression"]["top1"] <= 100
    assert "is at the end of --rates" in err
    status, _, err = run(knn_tool, [*argv, tmp_path / "knn.json", "--k", "2"], monkeypatch, capsys)
    assert status == 2 and "knn.json exists; allowed: another file, or --overwrite" in err
    assert json.loads((tmp_path / "knn.json").read_text()) == rows


def remove(path):
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("spoil", "argv", "words"),
    [
        (lambda root: remove(root / "val/cow"), [], "train has 3 classes and val has 2; only train has cow"),
        (lambda root: (root / "val/dodo").mkdir(), [], "val has 4; only val has dodo"),
        (lambda root: remove(root / "val"), [], "no data folder"),
        (lambda root: [f.unlink() for f in (root / "val/bee").iterdir()], [], "no images for 1 of 3 classes: bee"),
        (lambda root: [f.unlink() for f in (root / "train/bee").iterdir()], [], "no images for 1 of 3 classes: bee"),
        (lambda root: [remove(root / s / n) for s in ("train", "val") for n in ("ant", "bee")], [], "has 1 class: cow"),
        (lambda root: (root / "val/ant/1.png").write_bytes(b"no image"), ["--k", 3], "ant/1.png"),
        (None, [], "--k is 20 with 13 training images; allowed: 1 to 13"),
        (None, ["--k", "3,0"], "--k is 0 with 13"),
        (None, ["--k", "ten"], "argument --k: 'ten'"),
        (None, ["--k", 3, "--stages", 4], "stages is [4]; allowed: different integers from -4 to 3"),
        (None, ["--k", 3, "--stages", "2,2"], "stages is [2, 2]"),
        (None, ["--k", 3, "--input-size", 16], "input_size is 16; allowed: integers from 32"),
        (None, ["--k", 3, "--crop-pct", 0], "crop_pct is 0.0; allowed: above 0"),
        (None, ["--k", 3, "--batch-size", 0], "--batch-size: 0; allowed: integers from 1 up"),
        (None, ["--k", 3, "--arch", "van_b1"], "the model is van_b0 and --arch van_b1"),
        (None, ["--k", 3, "--cfg-options", "a=1"], "is no config"),
        (None, ["--out", "k.csv"], "--out is k.csv; allowed: a file with the suffix .json"),
        (lambda root: (root / "o.json").mkdir(), ["--out", "DATA/o.json"], "o.json, which is a folder"),
    ],
)
def test_mistakes_get_one_line(spoil, argv, words, copied, tmp_path, monkeypatch, capsys):
    if spoil:
        spoil(copied)
    argv = [str(one).replace("DATA", str(copied)) for one in argv]
    options = [*SMALL, "--out", tmp_path / "out.json", *argv, "--cache", tmp_path / "f.safetensors"]
    if words.startswith("--k is 20"):
        options += ["--k", "10,20"]
    status, _, err = run(knn_tool, ["van_b0", copied, *options], monkeypatch, capsys)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1 and words in lines[0] and "Traceback" not in err, err
    assert not (tmp_path / "out.json").exists() and not (tmp_path / "f.safetensors").exists()


@pytest.mark.parametrize("model", ["van_b9", "no_such_file.pth"])
def test_unknown_models_are_named_with_the_nearest(model, digits):
    with pytest.raises(UserError, match=f"unknown model .and no such file. '{model}'; nearest|allowed"):
        small(digits, model)


def test_a_config_of_another_task_is_refused(monkeypatch):
    monkeypatch.setattr(splits, "task_of", lambda cfg: "segmentation")
    with pytest.raises(UserError, match="is one of segmentation; allowed: a config of classification, or a folder"):
        small(DEMO)
