"""Images with classes in any layout, and of annotated objects, go into a classifier with one option."""

import own_files
import pytest
from mmengine.config import Config
from own_files import NAMES, picture, text

from backbones import UserError
from classification import TASK
from classification.data import CsvImages
from ziggurat.engine.config import load_config

LEAF = "classification/configs/demo/van_b0_digits.py"


def load(root, **options):
    """The data of a config, completed as those of every config are."""
    loaders = {
        f"{split}_dataloader": dict(dataset=dict(type="ImageFolder", folder=split)) for split in ("train", "val")
    }
    own = dict(data_root=str(root), data_format="auto", data_cache=str(root.parent / "cache"))
    cfg = Config(loaders | own | dict(model=dict(type="Classifier", num_classes=9)))
    cfg.merge_from_dict(options)
    TASK.complete(cfg)
    return cfg


def error_of(root, **options):
    with pytest.raises(UserError) as caught:
        TASK.check_data(load(root, **options), ("train", "val"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels_of(cfg, split="train"):
    """Name of each image -> the name of its class."""
    dataset = {key: value for key, value in cfg[f"{split}_dataloader"].dataset.items() if key != "type"}
    data = CsvImages(**dataset)
    return {path.removeprefix(f"{data.data_root}/"): data.classes[label] for path, label in data.samples}


def folders(root, *names):
    for name in names:
        picture(root / name, (40, 30))
    return root


@pytest.mark.parametrize("layout", ["{split}/{name}/x.jpg", "{split}/{name}/deep/x.jpg"])
def test_class_folders_under_other_names_of_splits(layout, tmp_path):
    root = tmp_path / "mine"
    for split in ("Training", "valid", "test"):
        folders(root, *(layout.format(split=split, name=name) for name in ("12", "traffic light", "猫")))
    cfg = load(root)
    assert cfg.train_dataloader.dataset.classes == ["12", "traffic light", "猫"] and cfg.model.num_classes == 3
    assert list(labels_of(cfg).values()) == cfg.train_dataloader.dataset.classes
    assert "/test-" in cfg.test_dataloader.dataset.folder and len(labels_of(cfg, "val")) == 3
    TASK.check_data(cfg)


def test_folders_without_splits_are_split_by_class(tmp_path):
    root = folders(tmp_path / "mine", *(f"{name}/{i}.jpg" for name in NAMES for i in range(10)))
    assert "all images are of one set; allowed: val_share=0.2" in error_of(root)
    cfg = load(root, val_share=0.2)
    TASK.check_data(cfg)
    train, val = labels_of(cfg), labels_of(cfg, "val")
    assert sorted(val.values()) == ["cat", "cat", "dog", "dog"] and len(train) == 16 and not train.keys() & val.keys()
    assert labels_of(load(root, val_share=0.2, data_format="folders"), "val") == val


def test_tables_with_usual_columns(tmp_path):
    root = folders(tmp_path / "mine", "images/a.jpg", "images/b.jpg", "images/c.jpg")
    text(root / "labels.csv", "id,breed,label,split", "a,x,cat,train", "b.jpg,x,dog,train", "images/c.jpg,x,dog,valid")
    cfg = load(root)
    assert labels_of(cfg) == {"images/a.jpg": "cat", "images/b.jpg": "dog"}
    assert labels_of(cfg, "val") == {"images/c.jpg": "dog"}
    text(root / "labels.csv", "id,label", "a,cat", "z,dog")
    assert "labels.csv:3: no image 'z'; allowed: an image in" in error_of(root)
    text(root / "labels.csv", "id,label", "a,cat", "a.jpg,dog")
    assert "several lines of tables have the images images/a.jpg" in error_of(root)


def test_the_class_of_the_largest_object(tmp_path):
    content = own_files.coco_content()
    small = dict(content["annotations"][0], id=9, category_id=2, bbox=[0, 0, 5, 5], area=25)
    crowd = dict(content["annotations"][0], id=10, category_id=2, area=900, iscrowd=1)
    content["annotations"] += [small, crowd]
    content["images"].append(dict(id=3, file_name="c.jpg", width=40, height=30))
    root = own_files.coco(own_files.coco(tmp_path / "mine", content), split="val")
    picture(root / "train/c.jpg", (40, 30))
    cfg = load(root)
    assert labels_of(cfg) == {"train/a.jpg": "cat", "train/b.jpg": "dog"}  # c.jpg has no object
    assert cfg.train_dataloader.dataset.classes == list(NAMES)
    content["annotations"] = content["annotations"][:1]
    text(root / "annotations/instances_train.json", own_files.json.dumps(content))
    cfg = load(root)
    assert labels_of(cfg, "val") == {"val/a.jpg": "cat"} and cfg.model.num_classes == 1


def test_no_layout_and_several(tmp_path):
    root = folders(tmp_path / "mine", "a.jpg")
    assert "no classes of images; allowed: folders such as train/CLASS and val/CLASS" in error_of(root)
    folders(root, "train/cat/a.jpg", "other/b.jpg")
    assert "folders other beside those of splits; allowed" in error_of(root)
    assert "unknown data_format 'x'; allowed: auto, folders, ilsvrc, csv" in error_of(root, data_format="x").replace(
        "nearest", "allowed"
    )
    assert "val_share needs data_format" in error_of(root, data_format=None, val_share=0.2)
    with pytest.raises(UserError, match="legend is an option of segmentation"):
        load_config(LEAF, {"legend": {"a": 1}})


def test_a_folder_goes_into_a_classifier(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    root = own_files.voc(tmp_path / "mine")
    text(root / "Annotations/b.xml", own_files.voc_xml("b", "cat", own_files.DOG))
    cfg = load_config(LEAF, {"data_root": str(root), "data_format": "auto", "data_cache": str(tmp_path / "cache")})
    assert cfg.model.num_classes == 1 and labels_of(cfg, "val") == {"JPEGImages/b.jpg": "cat"}


def test_the_classes_of_a_model_stay_for_other_data(tmp_path):
    names = ("ant", "bee", "cat")
    cfg = load(folders(tmp_path / "mine", *(f"{s}/{name}/x.jpg" for s in ("train", "val") for name in names)))
    cfg.data_root = str(folders(tmp_path / "other", "train/cat/x.jpg", "val/cat/x.jpg"))
    TASK.complete(cfg)
    assert cfg.model.num_classes == 3 and labels_of(cfg, "val") == {"val/cat/x.jpg": "cat"}
    assert cfg.val_dataloader.dataset.classes == list(names)
