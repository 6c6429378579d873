"""Data sets bring their own checks.

Another format is one file that a config imports. A subclass is checked as its base class is.
"""

import sys

import dense_data
import numpy as np
import pytest
from helpers import run
from PIL import Image

from backbones import UserError
from tools import browse_dataset
from ziggurat.engine.config import load_config
from ziggurat.engine.formats import format_of
from ziggurat.engine.tasks import task_for

DETECTION = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
SEGMENTATION = "segmentation/configs/demo/semantic_fpn_van_b0_digits.py"
CLASSIFICATION = "classification/configs/demo/van_b0_digits.py"

# A format of one's own: one text file, a line for each box.
ONE_FILE = """
from pathlib import Path
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS
from backbones import UserError
from ziggurat.engine.formats import Format, register_format


@DATASETS.register_module()
class TextBoxes(BaseDetDataset):
    def load_data_list(self):
        rows = [line.split() for line in Path(self.ann_file).read_text().splitlines()]
        names = list(self.metainfo["classes"])
        return [
            dict(img_path=str(Path(self.data_root) / file), img_id=i, height=64, width=64,
                 instances=[dict(bbox=list(map(float, box)), bbox_label=names.index(name), ignore_flag=0)])
            for i, (file, name, *box) in enumerate(rows)
        ]


@register_format(TextBoxes)
class TextBoxesFormat(Format):
    def classes(self, dataset):
        path = Path(dataset.data_root) / dataset.ann_file
        return tuple(sorted({line.split()[1] for line in path.read_text().splitlines()})) if path.is_file() else None

    def check(self, dataset, split):
        path = Path(dataset.data_root) / dataset.ann_file
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line.split()) != 6:
                raise UserError(f"{path}: line {number} has not the six parts FILE NAME X1 Y1 X2 Y2")
"""
CONFIG = """
_base_ = "{base}"
custom_imports = dict(imports=["detection", "{module}"])
data_root = "{root}"
load = dict(type="LoadImageFromFile")
boxes = dict(type="LoadAnnotations", with_bbox=True)
own = dict(_delete_=True, type="TextBoxes", ann_file="boxes.txt", pipeline=[load, boxes, dict(type="PackDetInputs")])
train_dataloader = dict(dataset=own)
val_dataloader = dict(dataset=own)
"""


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def text_boxes(tmp_path, monkeypatch, request):
    """A config whose data set is of a format that one file brings."""
    module = f"text_boxes_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(ONE_FILE.replace("register_module()", "register_module(force=True)"))
    monkeypatch.syspath_prepend(tmp_path)
    for i in range(2):
        Image.fromarray(dense_data.scene(i)[0]).save(tmp_path / f"{i}.png")
    (tmp_path / "boxes.txt").write_text("0.png sun 8 8 30 30\n1.png moon 20 20 50 50\n")
    base = request.config.rootpath / DETECTION
    (tmp_path / "config.py").write_text(CONFIG.format(base=base, module=module, root=tmp_path))
    yield tmp_path
    sys.modules.pop(module, None)


def test_one_file_brings_classes_and_checks(text_boxes):
    cfg = load_config(text_boxes / "config.py")
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 2
    for split in ("train", "val", "test"):
        assert cfg[f"{split}_dataloader"].dataset.metainfo.classes == ("moon", "sun")
    task_for(cfg).check_data(cfg)
    with (text_boxes / "boxes.txt").open("a") as file:
        file.write("2.png sun\n")
    with pytest.raises(UserError, match=r"boxes\.txt: line 3 has not the six parts"):
        task_for(cfg).check_data(cfg)


def test_its_samples_are_browsed(text_boxes, monkeypatch, capsys):
    argv = [text_boxes / "config.py", "--split", "val", "--out", text_boxes / "out"]
    status, _, err = run(browse_dataset, argv, monkeypatch, capsys)
    assert status == 0, err
    picture = np.asarray(Image.open(text_boxes / "out/000000.png"), int)
    scene = Image.open(text_boxes / "0.png").resize(picture.shape[1::-1], Image.Resampling.BICUBIC)
    scale = picture.shape[1] // 64
    changed = np.abs(picture - np.asarray(scene)).max(-1) > 40
    assert changed[20 * scale : 30 * scale, 8 * scale].mean() > 0.9, "no line at the left of the box"
    assert not changed[50 * scale :, 50 * scale :].any()


@pytest.fixture
def subclasses():
    """Subclasses of the three tasks' own data sets, and one that fixes its classes."""
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS as DETECTION_SETS
    from mmengine.registry import DATASETS
    from mmseg.registry import DATASETS as SEGMENTATION_SETS

    import detection  # noqa: F401
    import segmentation  # noqa: F401
    from classification.data import ImageFolder
    from segmentation.data import MaskFolderDataset

    made = {
        "MyCoco": (DETECTION_SETS, CocoDataset, {}),
        "MyDiscs": (DETECTION_SETS, CocoDataset, {"METAINFO": {"classes": ("disc",), "palette": [(9, 9, 9)]}}),
        "MyMasks": (SEGMENTATION_SETS, MaskFolderDataset, {}),
        "MyFolders": (DATASETS, ImageFolder, {}),
    }
    for name, (registry, base, body) in made.items():
        registry.register_module(module=type(name, (base,), body), force=True)
    yield
    for name, (registry, *_) in made.items():
        registry.module_dict.pop(name)


def of_type(config, name, root, **options):
    types = {f"{split}_dataloader.dataset.type": name for split in ("train", "val")}
    return load_config(config, {"data_root": str(root), **types, **options})


def test_a_subclass_of_cocos_data_set_is_checked_as_coco(subclasses, tmp_path):
    root = dense_data.write_coco(tmp_path / "coco")
    cfg = of_type(DETECTION, "MyCoco", root)
    assert cfg.train_dataloader.dataset.metainfo.classes == dense_data.CLASSES
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.val_evaluator.ann_file == str(root / "annotations/instances_val2017.json")
    (root / "train2017/0001.png").unlink()
    with pytest.raises(UserError, match="1 of 4 images are not in"):
        task_for(cfg).check_data(cfg)


def test_a_subclass_that_fixes_its_classes_keeps_them(subclasses, tmp_path):
    root = dense_data.write_coco(tmp_path / "coco")
    cfg = of_type(DETECTION, "MyDiscs", root)
    assert cfg.train_dataloader.dataset.metainfo.classes == ("disc",)
    assert cfg.model.roi_head.bbox_head.num_classes == 1
    task_for(cfg).check_data(cfg)


def test_a_subclass_of_mask_folders_is_checked(subclasses, tmp_path):
    root = dense_data.write_masks(tmp_path / "masks")
    own = {"model.decode_head.loss_decode.class_weight": None}
    cfg = of_type(SEGMENTATION, "MyMasks", root, classes=2, **own)
    assert cfg.model.decode_head.num_classes == 2
    with pytest.raises(UserError, match="mask values 3 are outside the 2 classes"):
        task_for(cfg).check_data(cfg)


def test_a_subclass_of_class_folders_is_checked(subclasses, tmp_path):
    for name in ("ant", "bee"):
        for split in ("train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "train/ant/0.png")
    cfg = of_type(CLASSIFICATION, "MyFolders", tmp_path)
    assert cfg.model.num_classes == 2 and cfg.val_dataloader.dataset.classes == ["ant", "bee"]
    with pytest.raises(UserError, match="no images for 1 of 2 classes: bee"):
        task_for(cfg).check_data(cfg, ("train",))


@pytest.mark.parametrize("name", ["LVISV1Dataset", "VOCDataset", "Unknown", "mmdet.Unknown"])
def test_formats_that_nobody_described_are_left_alone(name):
    import detection  # noqa: F401

    found = format_of(dict(type=name), "mmdet")
    assert found is None or found.classes(dict(type=name)) is None


def test_names_may_have_a_scope_or_be_classes():
    from mmdet.datasets import CocoDataset

    import detection  # noqa: F401

    known = {id(format_of(dict(type=kind), "mmdet")) for kind in ("CocoDataset", "mmdet.CocoDataset", CocoDataset)}
    assert len(known) == 1 and format_of(dict(type=CocoDataset), "mmdet") is not None
