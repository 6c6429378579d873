"""Training goes on without the few images that cannot be read, and stops with their list if there are too many.

The next image takes the place of an unreadable one, in every process and worker alike. A validation leaves it out.
Testing stops at the first one.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import run
from mmengine.dataset import default_collate
from PIL import Image
from torch.utils.data import DataLoader

from backbones import UserError
from classification.data import ImageFolder
from classification.data.samples import UNSCORED
from classification.extremes import ImagesHook
from classification.metrics import Accuracy, CalibrationError
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training
from ziggurat.engine.unreadable import UnreadableHook

CONFIG = "classification/configs/demo/van_b0_digits.py"
WHOLE = dict(input_size=40, crop_pct=1.0)


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def images(tmp_path):
    """Two classes of 10 images for training, of one colour each: that of their place in the list. Two are broken."""
    for split in ("train", "val"):
        for n in range(20):
            folder = tmp_path / split / "ab"[n // 10]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (n, n, n)).save(folder / f"{n:02}.png")
    for name in ("a/03.png", "a/04.png"):
        path = tmp_path / "train" / name
        path.write_bytes(path.read_bytes()[:50])
    return tmp_path


def colours(batch):
    return batch["inputs"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_image_takes_the_place(in_memory, workers, images):
    data = ImageFolder(images, "train", WHOLE, in_memory=in_memory, max_unreadable=0.1)
    loader = DataLoader(data, batch_size=5, num_workers=workers, collate_fn=default_collate)
    for _ in range(2):
        batches = list(loader)
        shown = [colour for batch in batches for colour in colours(batch)]
        assert shown == [0, 1, 2, 5, 5, *range(5, 20)]
        assert [int(label) for batch in batches for label in batch["data_samples"]] == [0] * 10 + [1] * 10
    assert data.unreadable.count == 2  # each counts once
    assert [name[-8:] for name in data.unreadable.names] == ["a/03.png", "a/04.png"]


def test_after_the_last_image_comes_the_first(images):
    (images / "train/b/19.png").write_text("no image")
    data = ImageFolder(images, "train", WHOLE, max_unreadable=0.2)
    assert colours(default_collate([data[19]])) == [0] and data[19]["data_samples"] == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_one_too_many_stops_with_the_list(workers, images, tmp_path):
    data = ImageFolder(images, "train", WHOLE, max_unreadable=0.05)
    data.unreadable.list_file = tmp_path / "run/unreadable.txt"
    with pytest.raises(UserError, match=r"2 of 20 training images .*a.03\.png, .*a.04\.png .*0\.05 allows 1"):
        list(DataLoader(data, batch_size=5, num_workers=workers))
    assert [line[-8:] for line in (tmp_path / "run/unreadable.txt").read_text().splitlines()] == [
        "a/03.png",
        "a/04.png",
    ]


def test_testing_stops_at_the_first(images):
    data = ImageFolder(images, "train", WHOLE)
    with pytest.raises(UserError, match=r"cannot be read.*a.03\.png"):
        data[3]
    with pytest.raises(UserError, match=r"cannot be read.*a.03\.png"):
        ImageFolder(images, "train", WHOLE, in_memory=True)


def test_no_readable_image_at_all_is_no_endless_search(images):
    for path in (images / "train").rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(UserError, match="none of 20 images can be read"):
        ImageFolder(images, "train", WHOLE, max_unreadable=1.0)[0]


@pytest.mark.parametrize("share", [1.5, -0.1, True])
def test_a_share_out_of_range_is_named(share, images):
    with pytest.raises(UserError, match=r"max_unreadable=.*allowed: a share from 0 to 1"):
        ImageFolder(images, "train", WHOLE, max_unreadable=share)


def settings(images, **more):
    options = {
        "data_root": str(images),
        "train_dataloader.batch_size": 4,
        "train_dataloader.num_workers": 2,
        "val_dataloader.num_workers": 0,
        "train_dataloader.dataset.in_memory": False,
        "train_cfg.max_epochs": 1,
        "input_size": 32,
        "model.backbone.arch": "van_b0",
        **more,
    }
    return load_config(CONFIG, options)


@pytest.fixture
def small(cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))


def test_a_run_says_what_it_skipped(small, images, tmp_path, capfd):
    cfg = settings(images, **{"train_dataloader.dataset.max_unreadable": 0.2})
    build_training(cfg, work_dir=tmp_path / "run", device="cpu").train()
    err = capfd.readouterr().err
    assert err.count("note: skipped: 2 of 20 training images cannot be read: ") == 1
    assert str(tmp_path / "run/unreadable.txt") in err
    assert len((tmp_path / "run/unreadable.txt").read_text().splitlines()) == 2


def broken_val(images, name="b/12.png"):
    (images / "val" / name).write_bytes(b"no image")
    for path in ("a/03.png", "a/04.png"):
        (images / "train" / path).write_bytes((images / "val" / path).read_bytes())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_validation_leaves_an_unreadable_image_out(workers, small, images, tmp_path, capfd):
    broken_val(images)
    seen = []
    options = {"val_dataloader.num_workers": workers, "val_dataloader.batch_size": 8, "train_cfg.max_epochs": 2}
    options |= {"train_dataloader.dataset.max_unreadable": 0.05, "val_dataloader.dataset.in_memory": False}
    runner = build_training(settings(images, **options), work_dir=tmp_path / "run", device="cpu")
    metric = runner.val_loop.evaluator.metrics[0]
    figures = metric.figures
    metric.figures = lambda results, unreadable: seen.append((results, unreadable)) or figures(results, unreadable)
    runner.train()
    out, err = capfd.readouterr()
    assert [(len(results), unreadable) for results, unreadable in seen] == [(19, 1), (19, 1)]
    assert err.count("note: skipped: 1 of 20 validation images cannot be read: ") == 1 and "b/12.png" in err
    lines = [line for line in (out + err).splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and all("unreadable 1" in " ".join(line.split()) for line in lines), lines
    assert (tmp_path / "run/unreadable_val.txt").read_text().endswith("b/12.png\n")
    assert not (tmp_path / "run/unreadable.txt").exists()


def test_too_many_in_a_validation_stop_the_run_after_its_checkpoint(small, images, tmp_path):
    broken_val(images)
    runner = build_training(
        settings(images, **{"val_dataloader.dataset.in_memory": False}), work_dir=tmp_path / "run", device="cpu"
    )
    with pytest.raises(UserError, match=r"1 of 20 validation images .*b.12\.png.* max_unreadable=0\.001 allows 0"):
        runner.train()
    assert (tmp_path / "run/epoch_1.pth").is_file()


def test_a_validation_set_may_allow_a_share_of_its_own(small, images, tmp_path):
    broken_val(images)
    options = {"val_dataloader.dataset.in_memory": False, "val_dataloader.dataset.max_unreadable": 0.5}
    build_training(settings(images, **options), work_dir=tmp_path / "run", device="cpu").train()


def test_metrics_count_readable_images_only():
    """Each metric gives what it gives without the images, in any place of a batch."""
    torch.manual_seed(0)
    images = [{"scores": torch.rand(9).softmax(0), "label": n % 9} for n in range(30)]
    for make in (Accuracy, CalibrationError):
        alone, mixed = make(), make()
        for metric, gap in ((alone, False), (mixed, True)):
            metric.dataset_meta = {}
            for begin in range(0, 30, 10):
                batch = images[begin : begin + 10]
                if gap:
                    batch = [*batch[:3], {**batch[3], "label": UNSCORED}, *batch[3:]]
                metric.process({}, batch)
        expected = alone.evaluate(size=30)
        assert mixed.evaluate(size=33) == expected | ({"unreadable": 3} if make is Accuracy else {})
    nothing = Accuracy()
    nothing.process({}, [{**images[0], "label": UNSCORED}])
    with pytest.raises(UserError, match="none of 1 images can be read"):
        nothing.evaluate(size=1)


def test_a_run_stops_with_one_line(small, images, tmp_path, monkeypatch, capsys):
    from tools import train

    options = [f"data_root={images}", "train_dataloader.batch_size=4", "train_dataloader.dataset.in_memory=False"]
    argv = [CONFIG, "--work-dir", tmp_path / "run", "--device", "cpu", "--cfg-options", *options]
    status, _, err = run(train, argv, monkeypatch, capsys)
    assert status == 2 and "Traceback" not in err and err.splitlines()[-1].startswith("error: ")
    assert "of 20 training images cannot be read" in err and "max_unreadable=0.001 allows 0" in err
    assert (tmp_path / "run/unreadable.txt").read_text().count(".png\n") >= 1


def test_the_records_of_all_processes_count(images, tmp_path, monkeypatch):
    """What another process found arrives by the largest flag of all processes."""
    import ziggurat.engine.unreadable as module

    data = ImageFolder(images, "train", WHOLE, max_unreadable=0.1)
    data[3]
    others = torch.zeros(20, dtype=torch.uint8)
    others[[7, 12]] = 1
    monkeypatch.setattr(module, "get_world_size", lambda: 2)
    monkeypatch.setattr(module, "all_reduce", lambda flags, op: flags.copy_(torch.maximum(flags, others)))
    with pytest.raises(UserError, match="4 of 20 training images"):  # 3 and 4 here, 7 and 12 there
        UnreadableHook().report(data.unreadable)


def test_the_transform_draws_the_same_numbers(images):
    """An unreadable image costs no random number, so the images after it are augmented as without it."""
    crop = dict(is_training=True, input_size=32)
    data = ImageFolder(images, "train", crop, max_unreadable=0.1)
    torch.manual_seed(3)
    with_skip = data[3]["inputs"]
    torch.manual_seed(3)
    np.testing.assert_array_equal(with_skip.numpy(), data[5]["inputs"].numpy())


def test_the_pictures_of_a_validation_leave_it_out():
    metric = Accuracy()
    metric.dataset_meta = {}
    loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=[metric]))
    outputs = [{"scores": torch.tensor([0.2, 0.8]), "label": label} for label in (1, UNSCORED, 0)]
    right, unscored, wrong = ImagesHook().judge(loop, outputs, range(3))
    assert unscored is None and right[1]["right"] and not wrong[1]["right"]
