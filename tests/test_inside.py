"""Names in annotation files lead neither out of the data's folders nor out of the folder for results.

Folders that a user made or linked may lie anywhere.
"""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import dense_data
import pytest
import torch
from PIL import Image

from backbones import UserError
from classification.data import CsvImages, ImageFolder
from detection.panoptic_metric import FullCocoPanopticMetric
from ziggurat.engine.config import load_config
from ziggurat.engine.formats import format_of
from ziggurat.engine.inside import check_inside, check_list
from ziggurat.engine.tasks import task_for

COCO = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
PANOPTIC = "detection/configs/van/mask2former_van_b2_lsj_50e_coco_panoptic.py"
MASKS = "segmentation/configs/demo/semantic_fpn_van_b0_digits.py"
WHOLE = dict(input_size=40, crop_pct=1.0)
INSIDE = ("a.png", "a/b.png", "../other/a.png", "a/../b.png", "..a/b..png", "a..png")


@pytest.mark.parametrize(
    "name", ["../../secret.png", "a/../../../secret.png", "/secret.png", "../../rooted/a.png", ".."]
)
def test_a_name_that_leads_out_is_one_line(name, tmp_path):
    root = tmp_path / "root"
    with pytest.raises(UserError) as caught:
        check_inside(
            "list.json", "file_name", ["a.png", name], root / "train", root / "train" if name == ".." else root
        )
    line = str(caught.value)
    assert line.startswith(f"list.json: file_name is {name!r}; allowed: paths inside {root}") and "\n" not in line


@pytest.mark.parametrize("name", INSIDE)
def test_a_name_inside_stays(name, tmp_path):
    check_inside("list.json", "file_name", [name], tmp_path / "train", tmp_path)


def test_linked_folders_and_absolute_names_in_them_stay(tmp_path):
    (tmp_path / "disc/images").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disc")
    for folder in (tmp_path / "data", tmp_path / "disc"):
        check_inside("list.json", "file_name", [folder / "images/a.png", "a.png"], tmp_path / "data/images")


@pytest.fixture
def secret(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    return tmp_path / "secret.png"


def change(file, edit):
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def check(config, root, **options):
    cfg = load_config(config, {"data_root": str(root), **options})
    task_for(cfg).check_data(cfg, ("train", "val"))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["coco", "panoptic", "panoptic map"])
def test_annotations_name_no_image_outside_their_data(kind, linked, secret):
    write, config, file = {"coco": (dense_data.write_coco, COCO, "instances_val2017")}.get(
        kind, (dense_data.write_panoptic, PANOPTIC, "panoptic_val2017")
    )
    root = write(secret.parent / "data")
    if linked:
        for name in ("train2017", "val2017"):
            (root / name).rename(secret.parent / f"elsewhere_{name}")
            (root / name).symlink_to(secret.parent / f"elsewhere_{name}")
    check(config, root)
    entries, name = ("annotations", "../../../secret.png") if kind == "panoptic map" else ("images", "../../secret.png")
    change(root / f"annotations/{file}.json", lambda content: content[entries][0].update(file_name=name))
    with pytest.raises(UserError, match=rf"{file}\.json: file_name is '{name}'; allowed: paths inside {root}"):
        check(config, root)


def test_lvis_names_no_image_outside_its_data(secret):
    file, dataset = secret.parent / "lvis.json", dict(type="LVISV1Dataset", data_root="data", ann_file="")
    dataset["ann_file"] = str(file)
    for name, is_allowed in (("train2017/a.jpg", True), ("../a.jpg", False)):
        images = [dict(id=1, coco_url=f"http://images.cocodataset.org/{name}")]
        file.write_text(json.dumps(dict(images=images, annotations=[], categories=[dict(id=1, name="a")])))
        with contextlib.nullcontext() if is_allowed else pytest.raises(UserError, match=r"an image is '\.\./a\.jpg'"):
            format_of(dataset, "mmdet").check(dataset, "train")


def test_a_table_names_no_image_outside_its_data(secret):
    root = secret.parent / "data"
    root.mkdir()
    Image.new("RGB", (64, 64)).save(root / "a.png")
    for name in ("../secret.png", str(secret)):
        (root / "train.csv").write_text(f"a.png,cat\n{name},dog\n")
        with pytest.raises(UserError, match=rf"train\.csv: a path is '{name}'; allowed: paths inside {root}"):
            CsvImages(root, "train", WHOLE)
    (root / "train.csv").write_text(f"a.png,cat\n{root / 'a.png'},dog\n")
    assert len(CsvImages(root, "train", WHOLE)) == 2


def test_a_class_is_a_folder_of_the_data(secret):
    """A checkpoint's classes may be anybody's words."""
    for name in ("data/train/cat", "dog"):
        (secret.parent / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(secret.parent / name / "a.png")
    found = ImageFolder(
        secret.parent / "data", "train", WHOLE, classes=["cat", "../../dog", str(secret.parent / "dog")]
    )
    assert [Path(name).parent.name for name, _ in found.samples] == ["cat"]


def test_a_list_names_no_image_outside_its_data(secret):
    root = secret.parent / "data"
    root.mkdir()
    dataset = dict(data_root=str(root), ann_file="train.txt", data_prefix=dict(img_path="images/train"))
    (root / "train.txt").write_text("a\nb/c\n../val/d\n")
    check_list(dataset)
    (root / "train.txt").write_text("a\n../../../secret\n")
    with pytest.raises(UserError, match=r"train\.txt: a line is '\.\./\.\./\.\./secret'; allowed: paths inside"):
        check_list(dataset)
    cfg = load_config(MASKS, {"data_root": str(dense_data.write_masks(secret.parent / "masks"))})
    cfg.train_dataloader.dataset = dict(type="mmseg.PascalVOCDataset", **dataset)
    with pytest.raises(UserError, match="a line is"):
        task_for(cfg).check_data(cfg, ("train",))


@pytest.mark.parametrize("name", ["/secret.jpg", "../../secret.jpg", "a/b.jpg"])
def test_maps_of_predictions_stay_in_their_folder(name, monkeypatch):
    metric = object.__new__(FullCocoPanopticMetric)
    metric._coco_api = SimpleNamespace(imgs={1: {"file_name": name}})
    monkeypatch.setattr(FullCocoPanopticMetric.__mro__[1], "_parse_predictions", lambda *given: given[3])
    pred = {"pred_panoptic_seg": {"sem_seg": torch.zeros(1)}}
    file = metric._parse_predictions(pred, 1, "")
    assert Path("folder", file).parent == Path("folder") and file.endswith(".png")
