"""Pages are whole HTML that names files which are there, and shows names of any letters as text.

The filters count what a plain loop counts. The statistics of a data set are those of NumPy over its files.
"""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers import run
from jinja2 import UndefinedError
from mmengine.dataset import ConcatDataset, DefaultSampler, RepeatDataset
from mmengine.evaluator import Evaluator
from page_reader import PageReader
from PIL import Image
from torch.utils.data import DataLoader

from backbones import UserError
from classification.extremes import ImagesHook
from classification.metrics import Accuracy
from classification.report import Report
from classification.task import TASK as CLASSIFICATION
from tools import browse_dataset
from tools.make_demo_data import make_demo_data
from ziggurat.engine.config import load_config
from ziggurat.engine.originals import innermost, looked_at, original, spread
from ziggurat.engine.pages import charts
from ziggurat.engine.pages.content import Card, Page, Table
from ziggurat.engine.pages.page import check_page_folder, filters_of, marks_of, number, save_picture, write_page
from ziggurat.engine.pages.report import write_report_page
from ziggurat.engine.tasks import task_for

CONFIGS = {
    "digits": "classification/configs/demo/van_b0_digits.py",
    "coco": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "ade": "segmentation/configs/demo/upernet_van_b0_digits.py",
}
CLASSES = ["<script>document.title='x'</script>", 'a&b "q" \' onload=1', "猫 cat", "never"]
FILES = ["a b#1%41?.png", "q'uo\"te.png", "ünï猫.png", "none.png", "<img src=x onerror=alert(1)>.png", "broken.png"]


def picture(seed=0, size=(64, 48)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8))


# What a page shows


def test_names_of_any_letters_are_text(tmp_path):
    """Names of files, classes and cells, in every place of a page where one can stand."""
    hostile = [*CLASSES, *FILES, "</title></script><b>", "{{ page }} {% raw %}", "\udcff\x1b[31m", "../a.png"]
    places = [name.replace("/", ":").encode(errors="surrogateescape") for name in hostile]
    cards, shown = [], []
    for i, (name, place) in enumerate(zip(hostile, places, strict=True)):
        file = f"pictures/{i} {place.decode(errors='surrogateescape')}.jpg"
        one = save_picture(picture(i), tmp_path, file, name)
        cards.append(Card(name, [one], [name], {name: [name], "class": [name]}))
        shown.append(one)
    page = Page(
        title=hostile[0],
        intro=hostile[1],
        facts=dict(zip(hostile, hostile, strict=True)),
        notes=hostile,
        charts=shown,
        tables=[Table(name, [name, "n"], [[name, None], [name, 3]]) for name in hostile],
        galleries={name: [card] for name, card in zip(hostile, cards, strict=True)},
        filters={"class": hostile, **{name: [name] for name in hostile}},
        files={name: one.file for name, one in zip(hostile, shown, strict=True)},
    )
    path = write_page(tmp_path, page)
    found = PageReader(path)
    assert found.scripts == 1, "the page's own"
    assert {*found.files} == {one.file for one in shown}
    assert all((tmp_path / file).is_file() for file in found.files)
    for name in hostile:
        text = " ".join(name.replace("\udcff", "\\udcff").replace("\x1b", "\\x1b").split())
        assert text in found.text, name
    assert set(found.counts().values()) == {1} and len(found.cards) == len(hostile)
    assert "\x1b" not in path.read_text(encoding="utf-8")


def test_filters_offer_what_no_image_has_and_count_an_image_once():
    cards = [Card("a", [], (), {"class": ["cat", "cat", "dog"]}), Card("b", [], (), {"class": ["dog", "other"]})]
    assert filters_of({"class": ["dog", "cat", "owl"]}, cards) == {"class": [("dog", 2), ("cat", 1), ("owl", 0)]}
    numbered = {"error": {"missed": 0}, "class": {"dog": 0, "cat": 1}}
    assert [marks_of(card, numbered) for card in cards] == ["1:1 1:0", "1:0"]


def test_an_empty_page_is_a_page(tmp_path):
    found = PageReader(write_page(tmp_path, Page(title="nothing")))
    assert found.scripts == 0 and found.files == [] and "nothing" in found.text


def test_a_long_table_is_folded_and_numbers_have_one_form(tmp_path):
    rows = [[f"class {i}", i * 1000, i / 7, None if i else "text"] for i in range(40)]
    path = write_page(tmp_path, Page(title="t", tables=[Table("Classes", ["a", "b", "c", "d"], rows)]))
    text = path.read_text(encoding="utf-8")
    assert "<details" in text and "39\u202f000" in text and ">5.57<" in text and "None" not in text
    assert [number(value) for value in (None, 9999, 12345, 0.5, 12.0, True)] == [
        "", "9999", "12\u202f345", "0.500", "12.00", "True"
    ]  # fmt: skip


def test_an_interrupted_page_leaves_the_old_one(tmp_path):
    write_page(tmp_path, Page(title="old"))
    with pytest.raises(UndefinedError):
        write_page(tmp_path, Page(title="new", tables=[None]))
    assert "old" in (tmp_path / "index.html").read_text() and len(list(tmp_path.iterdir())) == 1


# Which image a sample is made of


class Numbers(torch.utils.data.Dataset):
    metainfo = {}

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return (self.length, index)


def test_samples_are_traced_through_wrappers():
    first, second = Numbers(3), Numbers(5)
    joined = torch.utils.data.ConcatDataset([first, torch.utils.data.Subset(second, [4, 1])])
    for i in range(len(joined)):
        inner, place = original(joined, i)
        assert inner[place] == joined[i]
    assert list(innermost(joined)) == [first, second]
    assert [part[i] for part, i in looked_at(joined, 3)] == [(3, 0), (5, 0), (5, 4)]
    assert len(list(looked_at(joined, None))) == 8 and spread(0, 4) == [] and spread(2, 9) == [0, 1]


# The statistics of data sets


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "demo"
    return make_demo_data(out, num_train=7, num_val=3, digits_train=30, digits_val=10)


def statistics_of(layout, data, sample=None, split="train", **options):
    cfg = load_config(ROOT / CONFIGS[layout], {"data_root": str(data / layout), **options})
    task = task_for(cfg)
    return task, (dataset := task.build_dataset(cfg, split)), task.statistics(dataset, sample)


def test_statistics_of_objects_are_those_of_the_json(data):
    _, _, found = statistics_of("coco", data)
    content = json.loads((data / "coco/annotations/instances_train2017.json").read_text())
    names = [one["name"] for one in content["categories"]]
    labels = np.array([one["category_id"] for one in content["annotations"]])
    images = np.array([one["image_id"] for one in content["annotations"]])
    assert list(found.classes) == names and found.images == found.counted == len(content["images"]) == 7
    for i, one in enumerate(content["categories"]):
        assert found.counts[i] == (labels == one["id"]).sum()
        assert found.class_images[i] == len(np.unique(images[labels == one["id"]]))
    assert sorted(map(tuple, found.sizes)) == sorted((one["width"], one["height"]) for one in content["images"])
    (per_image, _), (sides, _) = found.distributions.values()
    assert sorted(per_image) == sorted(np.unique(images, return_counts=True)[1])
    size = content["images"][0]["width"] * content["images"][0]["height"]
    areas = np.array([one["bbox"][2] * one["bbox"][3] for one in content["annotations"]])
    assert np.sort(sides) == pytest.approx(np.sort(100 * np.sqrt(areas / size)))


def test_images_that_a_training_leaves_out_are_counted(hostile):
    root, _ = hostile
    kept, dropped = (
        task_for(cfg).statistics(task_for(cfg).build_dataset(cfg, "train"), None)
        for cfg in (
            load_config(ROOT / CONFIGS["coco"], {"data_root": str(root), "background": b}) for b in ("keep", "drop")
        )
    )
    assert (kept.images, dropped.images) == (6, 5)
    assert (kept.figures["images without objects"], kept.figures["images left out by the config"]) == (1, 0)
    assert (dropped.figures["images without objects"], dropped.figures["images left out by the config"]) == (0, 1)


@pytest.mark.parametrize("wrapper", [lambda d: RepeatDataset(d, 3), lambda d: ConcatDataset([d, d])])
def test_a_repeated_image_counts_once_and_a_joined_one_in_each(wrapper, data):
    task, dataset, found = statistics_of("coco", data)
    wrapped = wrapper(dataset)
    times = 2 if isinstance(wrapped, ConcatDataset) else 1
    again = task.statistics(wrapped, None)
    assert again.images == times * found.images and (again.counts == times * found.counts).all()
    assert task.annotated(wrapped, len(dataset) + 1).name == task.annotated(dataset, 1).name


def test_statistics_of_segments_are_those_of_the_panoptic_json(data):
    config = "detection/configs/hornet/mask2former_hornet_small_7x7_lsj_50e_coco_panoptic.py"
    cfg = load_config(ROOT / config, {"data_root": str(data / "coco")})
    task = task_for(cfg)
    dataset = task.build_dataset(cfg, "train")
    found = task.statistics(dataset, None)
    content = json.loads((data / "coco/annotations/panoptic_train2017.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    segments = [names[one["category_id"]] for image in content["annotations"] for one in image["segments_info"]]
    assert found.unit == "segments" and found.images == len(dataset) == 7
    assert dict(zip(found.classes, found.counts.tolist())) == {name: segments.count(name) for name in names.values()}
    assert set(task.annotated(dataset, 0).classes) <= set(names.values())


@pytest.mark.parametrize("sample", [None, 3])
def test_statistics_of_masks_are_those_of_their_pixels(sample, data):
    _, dataset, found = statistics_of("ade", data, sample)
    files = sorted((data / "ade/annotations/training").glob("*.png"))
    masks = [np.asarray(Image.open(files[i])) for i in spread(len(files), sample)]
    values = np.concatenate([mask.ravel() for mask in masks])
    assert found.counts.tolist() == [(values == i + 1).sum() for i in range(11)]
    assert found.class_images.tolist() == [sum((mask == i + 1).any() for mask in masks) for i in range(11)]
    assert (found.images, found.counted) == (len(dataset), len(masks)) == (7, sample or 7)
    assert [tuple(size) for size in found.sizes] == [mask.shape[::-1] for mask in masks]


def test_statistics_of_classes_are_those_of_the_folders(data):
    _, dataset, found = statistics_of("digits", data, sample=4)
    folders = sorted((data / "digits/train").iterdir())
    assert list(found.classes) == [folder.name for folder in folders]
    assert found.counts.tolist() == [len(list(folder.iterdir())) for folder in folders]
    assert found.images == len(dataset) and len(found.sizes) == 4 and set(map(tuple, found.sizes)) == {(64, 64)}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.draw_sizes(np.array([[640, 480], [640, 480], [1, 3000]])),
        lambda: charts.draw_sizes(np.array([[5, 7]])),
        lambda: charts.draw_ratios(np.array([[1, 90], [90, 1]])),
        lambda: charts.draw_distribution(np.array([0, 0, 3]), "images", "$x_y$"),
        lambda: charts.draw_distribution(np.arange(100000), "images", "x"),
        lambda: charts.draw_distribution(np.array([0.1, 0.1]), "images", "x"),
        lambda: charts.draw_counts(["$a_b$", "ünï", "x" * 99], np.array([3, 0, 10**12]), "objects"),
        lambda: charts.draw_counts([f"class {i}" for i in range(1000)], np.arange(1000), "objects"),
    ],
)
def test_charts_of_odd_numbers_are_drawn(draw):
    image = draw()
    assert np.asarray(image).std() > 5 and 700 < image.width < 900 and image.height < 2600


def test_counts_are_brief():
    assert [charts.brief(value) for value in (0, 12, 9999, 10000, 999_400, 1.44e6, 3e9)] == [
        "0", "12", "9999", "10k", "999k", "1.44M", "3G"
    ]  # fmt: skip


# The page of a data set


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """COCO data whose names are to be escaped: an image without objects, and one that cannot be read."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "train2017").mkdir()
    (root / "annotations").mkdir()
    images, annotations = [], []
    for i, name in enumerate(FILES):
        picture(i).save(root / "train2017" / name)
        images.append(dict(id=i + 1, file_name=name, width=64, height=48))
        for k in range(0 if name == "none.png" else 1 + i % 3):
            box = [4 + 8 * k, 6, 20, 20]
            outline = [box[0], 6, box[0] + 20, 6, box[0] + 20, 26, box[0], 26]
            one = dict(id=10 * i + k + 1, image_id=i + 1, category_id=k + 1, bbox=box, area=400, iscrowd=0)
            annotations.append(one | dict(segmentation=[outline]))
    (root / "train2017/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return root, content


def test_the_page_of_a_data_set(hostile, tmp_path, monkeypatch, capsys):
    """Every name is text, the filter counts the images of the json, and an unreadable image is named and left out."""
    root, content = hostile
    out = tmp_path / "out #1%20"
    argv = [ROOT / CONFIGS["coco"], "--out", out, "--augmented", "3", "--cfg-options", f"data_root={root}"]
    status, printed, err = run(browse_dataset, [*argv, "background=keep"], monkeypatch, capsys)
    assert status == 0, err
    assert f"page: {out / 'index.html'}" in printed and "broken.png" in printed
    page = PageReader(out / "index.html")
    assert page.scripts == 1 and all((out / file).is_file() for file in page.files)
    assert [card["name"].partition(": ")[2].removeprefix("train2017/") for card in page.cards] == FILES[:-1]
    shown = {one["id"] for one in content["images"] if one["file_name"] != "broken.png"}
    for i, name in enumerate(CLASSES):
        of = {one["image_id"] for one in content["annotations"] if one["category_id"] == i + 1}
        assert page.counts()[0, name] == len(of & shown)
    assert "broken.png" in page.text and "no objects" in page.text
    assert all(len(card["files"]) == 2 for card in page.cards), "no random step, so one version stands for three"
    assert len(list((out / "statistics").iterdir())) >= 4


def test_random_steps_give_versions_that_differ(data, tmp_path, monkeypatch, capsys):
    argv = [ROOT / CONFIGS["digits"], "--out", tmp_path, "--num", "2", "--augmented", "3"]
    status, _, err = run(browse_dataset, [*argv, "--cfg-options", f"data_root={data / 'digits'}"], monkeypatch, capsys)
    assert status == 0, err
    for card in PageReader(tmp_path / "index.html").cards:
        pictures = [np.asarray(Image.open(tmp_path / file)) for file in card["files"]]
        assert len(pictures) == 4 and not np.array_equal(pictures[1], pictures[2])


@pytest.mark.parametrize("option", [("--augmented", "0"), ("--augmented", "x"), ("--sample", "-1"), ("--num", "1.5")])
def test_numbers_that_are_none_are_one_line(option, monkeypatch, capsys):
    status, _, err = run(browse_dataset, [ROOT / CONFIGS["coco"], *option], monkeypatch, capsys)
    assert status == 2 and repr(option[1]) in err and err.count("\n") == 1


def test_data_that_cannot_be_read_at_all_are_an_error(data, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        for split in ("train", "val"):
            folder = tmp_path / "digits" / split / name
            folder.mkdir(parents=True)
            (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    argv = [ROOT / CONFIGS["digits"], "--split", "val", "--out", tmp_path / "out", "--cfg-options"]
    options = [f"data_root={tmp_path / 'digits'}", "val_dataloader.dataset.in_memory=False"]
    status, _, err = run(browse_dataset, [*argv, *options], monkeypatch, capsys)
    assert status == 2 and "x.png" in err and err.count("\n") == 1
    assert not (tmp_path / "out/index.html").exists()


# The page of a test. Those of detection and segmentation are in test_testing.py, where there is a model to test.


class Digits(torch.utils.data.Dataset):
    """Six grey images."""

    metainfo = {"classes": tuple(CLASSES[:3])}

    def __init__(self, labels):
        self.samples = [(f"val/{FILES[i]}", label) for i, label in enumerate(labels)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return {"inputs": torch.full((3, 4, 4), 40 * index, dtype=torch.uint8), "data_samples": self.samples[index][1]}


SCORES = torch.tensor([[8, 1, 1], [1, 7, 2], [9, 0, 1], [2, 2, 6], [3, 6, 1], [4.5, 2.5, 3]]) / 10
LABELS = [0, 2, 1, 2, 1, 2]  # right, wrong, wrong, right, right, wrong


@pytest.fixture
def tested(tmp_path):
    """The folder of a classifier's report."""
    dataset = Digits(LABELS)
    evaluator = Evaluator([Accuracy(topk=(1,)), Report(tmp_path, CLASSES[:3])])
    evaluator.dataset_meta = dataset.metainfo
    loader = DataLoader(dataset, 6, sampler=DefaultSampler(dataset, shuffle=False))
    loop = SimpleNamespace(dataloader=loader, evaluator=evaluator)
    runner = SimpleNamespace(work_dir=tmp_path / "work", test_loop=loop)
    hook = ImagesHook(2, folder=str(tmp_path))
    outputs = [{"scores": scores, "label": label} for scores, label in zip(SCORES, LABELS)]
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, outputs)
    evaluator.process(outputs, None)
    evaluator.evaluate(6)
    hook.after_test_epoch(runner)
    return tmp_path


def test_the_page_of_a_classifier_shows_the_images_of_the_list(tested):
    page = PageReader(write_report_page(tested, CLASSIFICATION, "x/epoch_1.pth"))
    lists = json.loads((tested / "test_images.json").read_text())
    entries = [*lists["worst"], *lists["best"]]
    assert [one["index"] for one in lists["worst"]] == [2, 1, 5] and len(entries) == 6, "more than the sheet has"
    assert [card["name"] for card in page.cards] == [one["image"] for one in entries]
    assert [card["files"] for card in page.cards] == [list(one["pictures"].values()) for one in entries]
    assert all((tested / file).is_file() for file in page.files)
    counts = page.counts()
    assert (counts[0, "wrong"], counts[0, "right"]) == (3, 3)
    assert [counts[1, name] for name in CLASSES[:3]] == [LABELS.count(i) for i in range(3)]
    assert [counts[2, name] for name in CLASSES[:3]] == torch.bincount(SCORES.argmax(1)).tolist()
    assert "50.00" in page.text and "epoch_1.pth" in page.text


def test_images_of_an_earlier_test_are_not_shown(tested):
    report = (tested / "report.json").stat()
    os.utime(tested / "test_images.json", ns=(report.st_mtime_ns - 10**9,) * 2)
    page = PageReader(write_report_page(tested, CLASSIFICATION, "x.pth"))
    assert page.cards == [] and "no list of its worst images" in page.text


def test_a_test_without_a_report_has_no_page(tmp_path):
    assert write_report_page(tmp_path, CLASSIFICATION, "x.pth") is None and not list(tmp_path.iterdir())


# Files of the user's


@pytest.mark.parametrize("name", ["index.html", "000007.png"])
def test_a_page_replaces_no_files_but_a_page(name, tmp_path):
    patterns = ("[0-9]" * 6 + ".png",)
    check_page_folder(tmp_path, "--out", patterns)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"--out .* has {name}, and no page that could be replaced; allowed: a new"):
        check_page_folder(tmp_path, "--out", patterns)
    write_page(tmp_path, Page(title="earlier"))
    check_page_folder(tmp_path, "--out", patterns)
