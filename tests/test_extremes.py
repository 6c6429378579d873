"""The best and the worst images of an evaluation are those of a plain sort, in one process and in several.

The picture and the list show what the classifier predicted for them.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.registry import HOOKS
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

from classification import TASK
from classification.data.samples import UNSCORED
from classification.extremes import ImagesHook, picture_of
from classification.metrics import Accuracy
from ziggurat.engine import extremes
from ziggurat.engine.config import load_config
from ziggurat.engine.extremes import Extremes, Judged
from ziggurat.engine.run import build_training
from ziggurat.engine.sheet import Tile, draw_sheet

DEMO = ROOT / "classification/configs/demo/van_b0_digits.py"


@pytest.mark.parametrize(("total", "count"), [(100, 8), (16, 8), (11, 8), (3, 8), (1, 8), (40, 1)])
def test_kept_are_the_first_and_the_last_of_all(total, count):
    qualities = np.random.default_rng(0).permutation(total) / total
    images = [Judged(quality, index) for index, quality in enumerate(qualities.tolist())]
    kept = Extremes(count)
    for first in range(0, total, 7):
        kept.add(images[first : first + 7])
    kept.add(images[:3])  # the copies that pad the last batch of a process
    order = sorted(images)
    assert kept.worst == order[:count] and kept.best == order[::-1][:count]
    apart = kept.apart()
    half = -(-total // 2)
    assert apart.worst == order[: min(count, half)]
    assert apart.best == order[::-1][: min(count, total - half)]


class Images(torch.utils.data.Dataset):
    """Grey images of sides 4, whose grey value is their index."""

    metainfo = {"classes": ("cat", "dog", "owl")}

    def __init__(self, labels):
        self.samples = [(f"val/{self.metainfo['classes'][label]}/{i}.png", label) for i, label in enumerate(labels)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return {"inputs": torch.full((3, 4, 4), index, dtype=torch.uint8), "data_samples": self.samples[index][1]}


SCORES = torch.tensor([[8, 1, 1], [1, 7, 2], [9, 0, 1], [2, 2, 6], [3, 6, 1], [4.5, 2.5, 3]]) / 10
LABELS = [0, 2, 1, 2, 1, 2]  # right, wrong 0.7, wrong 0.9, right, right, wrong 0.45


def evaluated(sampler, batch, tmp_path, metric=None, count=2, unreadable=()):
    """Shows one process's part of six images to the hook, as a test does. Returns the hook."""
    dataset = Images(LABELS)
    loader = DataLoader(dataset, batch, sampler=sampler(dataset))
    evaluator = Evaluator([metric or Accuracy()])
    evaluator.dataset_meta = dataset.metainfo
    runner = SimpleNamespace(work_dir=tmp_path, test_loop=SimpleNamespace(dataloader=loader, evaluator=evaluator))
    hook = ImagesHook(count)
    hook.before_test_epoch(runner)
    for i, part in enumerate(loader):
        indices = part["inputs"][:, 0, 0, 0].tolist()
        labels = [UNSCORED if index in unreadable else LABELS[index] for index in indices]
        outputs = [{"scores": SCORES[index], "label": label} for index, label in zip(indices, labels)]
        hook.after_test_iter(runner, i, part, outputs)
    hook.after_test_epoch(runner)
    return hook


def indices(tmp_path):
    lists = json.loads((tmp_path / "test_images.json").read_text())
    return [[one["index"] for one in lists[name]] for name in ("worst", "best")]


def in_order(dataset):
    return DefaultSampler(dataset, shuffle=False)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_most_confident_mistakes_come_first(batch, tmp_path):
    evaluated(in_order, batch, tmp_path)
    assert indices(tmp_path) == [[2, 1], [0, 3]]
    first = json.loads((tmp_path / "test_images.json").read_text())["worst"][0]
    assert first["quality"] == pytest.approx(-0.9)
    assert (first["image"], first["predicted"], first["true"]) == ("val/dog/2.png", "cat", ["dog"])
    assert first["score"] == pytest.approx(0.9) and first["true_score"] == pytest.approx(0)


@pytest.mark.parametrize("batch", [1, 4])
def test_an_image_that_could_not_be_read_is_not_judged(batch, tmp_path):
    evaluated(in_order, batch, tmp_path, unreadable=[0, 2])
    assert indices(tmp_path) == [[1, 5], [4, 3]]


def test_the_picture_shows_these_images(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(extremes, "draw_sheet", lambda blocks, *form: shown.extend(blocks) or draw_sheet(blocks))
    evaluated(in_order, 4, tmp_path)
    (worst, wrong), (best, right) = shown
    assert (worst, best) == ("Wrong, with the highest score first", "Right, with the highest score first")
    assert [tile.image.getpixel((0, 0))[0] for tile in (*wrong, *right)] == [2, 1, 0, 3]
    assert wrong[0].lines == ["predicted: cat, 90.0 %", "true: dog, 0.0 %", "dog/2.png"]
    assert right[0].lines == ["predicted: cat, 80.0 %", "cat/0.png"] and right[0].colour != wrong[0].colour
    page = np.asarray(Image.open(tmp_path / "test_images.png"))
    for tile in (*wrong, *right):
        assert (page == tile.colour).all(-1).any()


def test_several_processes_find_the_same(tmp_path, monkeypatch):
    """The second process is asked for what it found, as all_gather_object would ask."""
    found = []

    def gather(own):
        found.append(own)
        return found

    monkeypatch.setattr(extremes, "all_gather_object", gather)
    for rank in (1, 0):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 2))
        evaluated(in_order, 2, tmp_path / str(rank))
    assert indices(tmp_path / "0") == [[2, 1], [0, 3]]
    assert len(found) == 2


def test_what_counts_as_right_is_what_the_metric_says(tmp_path):
    """Some classes only may be predicted, as for ImageNet-R. Their scores then have the sum 1."""
    evaluated(in_order, 4, tmp_path, Accuracy(subset=[0, 2]))
    assert indices(tmp_path) == [[2, 4], [0, 3]]
    best = json.loads((tmp_path / "test_images.json").read_text())["best"]
    assert [one["score"] for one in best] == pytest.approx([8 / 9, 6 / 8])


def test_a_report_has_the_pictures_too(tmp_path):
    cfg = Config.fromfile(ROOT / "classification/configs/_base_/testing.py", import_custom_modules=False)
    TASK.use_test_options(cfg, ["cat", "dog"], report=str(tmp_path / "report"))
    hook = HOOKS.build(cfg.default_hooks.images)
    assert (type(hook), hook.folder) == (ImagesHook, str(tmp_path / "report"))
    dataset = Images(LABELS)
    loop = SimpleNamespace(dataloader=DataLoader(dataset, 2), evaluator=Evaluator([Accuracy()]))
    hook.begin(loop)
    hook.found.add([Judged(0.5, 1, dict(right=True, predicted=2, score=0.5, true=[2], true_score=0.5))])
    hook.draw(tmp_path / "work", loop, "test")
    assert (tmp_path / "report/test_images.png").is_file() and not (tmp_path / "work").exists()


def test_without_a_known_order_there_is_no_picture(tmp_path):
    evaluated(RandomSampler, 4, tmp_path)
    assert not list(tmp_path.iterdir())


def test_grey_images_and_crops_are_shown(tmp_path):
    assert picture_of(torch.full((1, 4, 6), 9, dtype=torch.uint8)).getpixel((5, 3)) == (9, 9, 9)
    crops = torch.stack([torch.full((3, 4, 4), i, dtype=torch.uint8) for i in range(5)])
    assert picture_of(crops).getpixel((0, 0)) == (4, 4, 4)


def test_a_page_has_room_for_every_tile():
    """Each tile's picture is on the page as often as it was given, wide and tall ones too."""
    images = [Image.new("RGB", size, (200, 10 * i, 0)) for i, size in enumerate([(30, 30), (60, 20), (20, 60)] * 3)]
    blocks = [("a", [Tile(image, ["x" * 90, "y"], (1, 2, 3)) for image in images]), ("none", [])]
    page = np.asarray(draw_sheet(blocks))
    for image in images:
        area = (page == image.getpixel((0, 0))).all(-1).sum()
        assert area == pytest.approx(224 * 224 * min(image.size) / max(image.size), rel=0.05)


def test_a_training_leaves_the_picture_of_its_last_validation(tmp_path, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    pixels = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(2):
                image = Image.fromarray(pixels.integers(0, 256, (32, 32, 3), np.uint8))
                image.save(tmp_path / split / name / f"{i}.png")
    options = {
        "data_root": str(tmp_path),
        "train_cfg": dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=2, val_interval=1),
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.dataset.transform": dict(_delete_=True, is_training=False, input_size=32, crop_pct=1.0),
    }
    run = build_training(load_config(DEMO, options), tmp_path / "run", device="cpu")
    run.train()
    lists = json.loads((tmp_path / "run/val_images.json").read_text())
    shown = [*lists["worst"], *lists["best"]]
    assert {one["index"] for one in shown} == {0, 1, 2, 3}
    top1 = 100 * np.mean([one["right"] for one in shown])
    assert top1 == run.message_hub.get_scalar("val/top1").current()
    assert 'src="val_images.png"' in (tmp_path / "run/summary.html").read_text()
