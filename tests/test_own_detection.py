"""A folder in any format goes into a detector with one option."""

import json

import dense_data
import own_files
import pytest
from helpers import run
from mmengine.config import Config
from own_files import text
from PIL import Image

from backbones import UserError
from detection import TASK
from tools import test, train

MASKS = "detection/configs/demo/mask_rcnn_van_b0_digits.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def load(root, kind="CocoDataset", masks=False, **options):
    """The data of a config, completed as those of every config are."""
    loading = dict(type="LoadAnnotations", with_bbox=True, with_mask=masks)
    loaders = {f"{split}_dataloader": dict(dataset=dict(type=kind, pipeline=[loading])) for split in ("train", "val")}
    own = dict(data_root=str(root), data_format="auto", data_cache=str(root.parent / "cache"))
    cfg = Config(loaders | own | dict(val_evaluator=dict(type="FullCocoMetric")))
    cfg.merge_from_dict(options)
    TASK.complete(cfg)
    return cfg


def error_of(root, splits=("train", "val"), **options):
    with pytest.raises(UserError) as caught:
        TASK.check_data(load(root, **options), splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scenes(root, splits=("train", "val"), count=2):
    """A YOLO folder of the scenes of tests, with outlines of the boxes and discs."""
    for split in splits:
        for i in range(count):
            pixels, objects = dense_data.scene(i)
            path = root / "images" / split / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            lines = []
            for label, mask in objects:
                rows, columns = mask.any(1).nonzero()[0] / 64, mask.any(0).nonzero()[0] / 64
                corners = own_files.outline([columns[0], rows[0], columns[-1] - columns[0], rows[-1] - rows[0]])
                lines.append(" ".join(map(str, [label, *corners])))
            text(root / "labels" / split / f"{i}.txt", *lines)
    text(root / "data.yaml", *(f"{split}: images/{split}" for split in splits), "names: [box, disc]")
    return root


def test_a_yolo_folder_trains_and_tests(shallow_van, tmp_path, monkeypatch, capsys):
    root = scenes(tmp_path / "mine")
    one = ["train_cfg.max_iters=1", "train_cfg.val_interval=9", "default_hooks.checkpoint.interval=1"]
    one += [f"{split}_dataloader.{key}" for split in ("train", "val") for key in ("num_workers=0", "batch_size=1")]
    argv = [
        MASKS,
        "--data",
        root,
        "--work-dir",
        tmp_path / "run",
        "--cfg-options",
        *one,
        f"data_cache={tmp_path / 'c'}",
    ]
    status, _, err = run(train, argv, monkeypatch, capsys)
    assert status == 0, err
    argv = [tmp_path / "run/iter_1.pth", "--work-dir", tmp_path / "test", "--out", tmp_path / "metrics.json"]
    status, _, err = run(test, [*argv, "--cfg-options", f"data_cache={tmp_path / 'c'}"], monkeypatch, capsys)
    assert status == 0, err
    assert "coco/segm_mAP" in json.loads((tmp_path / "metrics.json").read_text())
    assert not list(root.rglob("*.json"))


@pytest.mark.parametrize("name", own_files.WRITERS)
def test_mmdets_data_set_has_the_boxes_of_each_format(name, tmp_path):
    root = tmp_path / "data"
    own_files.WRITERS[name](root)
    cfg = load(root)
    classes = cfg.train_dataloader.dataset.metainfo.classes
    assert set(classes) == {"cat", "dog"}
    TASK.check_data(cfg)
    with TASK.scoped(cfg):
        from mmdet.registry import DATASETS

        data = DATASETS.build(cfg.train_dataloader.dataset | dict(pipeline=[], serialize_data=False))
    boxes = {classes[one["bbox_label"]]: one["bbox"] for i in range(len(data)) for one in data[i]["instances"][:1]}
    wanted = {"cat": [4, 6, 14, 26], "dog": [10, 0, 20, 10]}
    assert boxes == ({"cat": wanted["cat"]} if name == "voc" else wanted)


def test_completing_again_follows_the_data(tmp_path):
    root = scenes(tmp_path / "mine")
    cfg = load(root)
    before = cfg.val_dataloader.dataset.ann_file
    TASK.complete(cfg)
    assert cfg.val_dataloader.dataset.ann_file == cfg.val_evaluator.ann_file == before
    text(root / "labels/val/0.txt", "1 0.5 0.5 0.1 0.1")
    TASK.complete(cfg)
    assert cfg.val_dataloader.dataset.ann_file == cfg.test_evaluator.ann_file != before


def test_a_test_set_of_its_own_is_tested_on(tmp_path, capsys):
    cfg = load(scenes(tmp_path / "mine", ("train", "val", "test")))
    assert "/test-" in cfg.test_dataloader.dataset.ann_file and "/val-" in cfg.val_dataloader.dataset.ann_file
    cfg = load(scenes(tmp_path / "two", ("train", "test")))
    assert cfg.val_dataloader.dataset.ann_file == cfg.test_dataloader.dataset.ann_file
    TASK.check_data(cfg)
    assert "there are no validation images; the test images are validated on" in capsys.readouterr().err


def test_data_of_one_set_are_tested_on_and_not_trained_on(tmp_path):
    root = scenes(tmp_path / "mine", ("train",))
    message = error_of(root)
    assert "all images are of one set, 'train'; allowed: val_share=0.2 to take a share" in message
    cfg = load(root)
    TASK.check_data(cfg, ("test",))
    cfg = load(root, val_share=0.5)
    TASK.check_data(cfg)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(data_format=None, val_share=0.2), "val_share needs data_format"),
        (dict(val_group="a"), "val_group needs val_share"),
        (dict(val_share=2), "val_share=2; allowed: a number between 0 and 1"),
        (dict(val_share=0.2), "has validation images, and val_share is 0.2; allowed: val_share=None"),
        (dict(box_units="cm"), "unknown box_units 'cm'; allowed: pixels, shares"),
        (dict(data_files=7), "data_files=7; allowed: dict(train=FILE, val=FILE, test=FILE)"),
    ],
)
def test_options_that_do_not_fit(options, words, tmp_path):
    assert words in error_of(scenes(tmp_path / "mine"), **options)


def test_a_panoptic_config_names_what_it_reads(tmp_path):
    with pytest.raises(UserError, match="dataset is CocoPanopticDataset; allowed: CocoDataset, as in configs of boxes"):
        load(scenes(tmp_path / "mine"), "CocoPanopticDataset")


def test_boxes_alone_are_refused_for_masks(tmp_path):
    root = own_files.boxes_csv(tmp_path / "data")
    message = error_of(root, masks=True)
    assert "2 annotations have no segmentation; use a detector without masks" in message


def test_findings_name_the_places_that_annotations_were_read_from(tmp_path):
    from ziggurat.engine.dataset_check import check_dataset

    root = scenes(tmp_path / "mine")
    text(root / "labels/train/0.txt", "0 0.5 0.5 0.5 0.5 0.9", "1 0.5 0.5 0 0.5")
    text(root / "labels/val/0.txt", "0 0.5 0.5 0.5 0.5")
    found = {one.id: one for one in check_dataset(load(root), TASK).findings if one.split in ("train", "")}
    assert found["reading"].message.endswith("mine: 1 confidences left out: labels/train/0.txt:1")
    assert found["annotation-unused"].examples == ("labels/train/0.txt:2",)
    assert found["box-empty"].examples == ("labels/train/0.txt:2",)


def test_a_split_without_objects_is_not_tested_on(tmp_path):
    root = scenes(tmp_path / "mine", ("train", "val", "test"))
    for file in (root / "labels/test").iterdir():
        file.unlink()
    cfg = load(root)
    assert "/val-" in cfg.test_dataloader.dataset.ann_file
