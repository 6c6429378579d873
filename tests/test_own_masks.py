"""Masks of any layout and any kind become class indices, and outlines become masks."""

import json

import numpy as np
import own_files
import pytest
from mmengine.config import Config
from own_files import NAMES, SIZES, picture, text
from PIL import Image

from backbones import UserError
from segmentation import TASK
from segmentation.legend import checked_legend, read_legend
from segmentation.mask_files import read_mask
from ziggurat.engine import own_testing
from ziggurat.engine.config import load_config

ADE = ("training", "validation")
LEAF = "segmentation/configs/demo/semantic_fpn_van_b0_digits.py"
VALUES = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 142]], np.uint8)


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    from mmengine.registry import init_default_scope

    monkeypatch.chdir(request.config.rootpath)
    init_default_scope("mmseg")


def load(root, **options):
    """The data of a config, completed as those of every config are."""
    folders = {split: dict(img_path=f"images/{split}", seg_map_path=f"annotations/{split}") for split in ADE}
    loaders = {
        f"{key}_dataloader": dict(dataset=dict(type="MaskFolderDataset", data_prefix=folders[split], pipeline=[]))
        for key, split in zip(("train", "val"), ADE)
    }
    own = dict(data_root=str(root), data_format="auto", data_cache=str(root.parent / "cache"), reduce_zero_label=True)
    cfg = Config(loaders | own)
    cfg.merge_from_dict(options)
    TASK.complete(cfg)
    return cfg


def error_of(root, splits=("train", "val"), **options):
    with pytest.raises(UserError) as caught:
        TASK.check_data(load(root, **options), splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def masks_of(cfg, split="train"):
    """Name of each image -> its mask as the training gets it."""
    from mmseg.registry import DATASETS

    data = DATASETS.build(
        cfg[f"{split}_dataloader"].dataset | dict(pipeline=[dict(type="LoadMask")], serialize_data=False)
    )
    return {item["img_path"].removeprefix(f"{data.data_root}/"): item["gt_seg_map"] for item in data}


def names_of(cfg):
    return list(cfg.train_dataloader.dataset.metainfo.classes)


def mask_file(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path, **options)
    return path


def pair(root, image, mask, values=VALUES):
    size = np.asarray(values).shape[1::-1]
    picture(root / image, size)
    mask_file(root / mask, values)


LAYOUTS = {
    "images/train/a.jpg": "masks/train/a.png",
    "train/images/x/a.jpg": "train/masks/x/a.png",
    "train/a.jpg": "train/a_mask.png",
    "img/train/a.jpg": "ann/train/a.bmp",
    "Images/training/a.tif": "GroundTruth/training/a_gt.tif",
}


@pytest.mark.parametrize(("image", "mask"), LAYOUTS.items())
def test_any_suffix_beside_any_other_in_any_folders(image, mask, tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        pair(root, image.replace("train", split), mask.replace("train", split))
    cfg = load(root)
    assert {name: found.tolist() for name, found in masks_of(cfg).items()} == {image: VALUES.tolist()}
    assert list(masks_of(cfg, "val")) == [image.replace("train", "val")]
    assert names_of(cfg) == ["class 0", "class 1", "class 2"]
    TASK.check_data(cfg)


def test_names_and_values_say_whether_zero_is_a_class(tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        pair(root, f"images/{split}/a.jpg", f"masks/{split}/a.png")
    assert masks_of(load(root, classes=["x", "y", "z"]))["images/train/a.jpg"].tolist() == VALUES.tolist()
    cfg = load(root, classes=["y", "z"])
    assert masks_of(cfg)["images/train/a.jpg"].tolist() == [[255, 0, 1], [1, 0, 255]]
    assert cfg.reduce_zero_label is True
    assert "values 0, 1, 2, and classes=['y', 'z']; allowed: names for 0 to 2" in error_of(
        root, classes=["y", "z"], reduce_zero_label=False
    )
    assert "allowed: names for 0 to 2, or for 1 to 2 if 0 is unlabelled" in error_of(root, classes=["z"])


@pytest.mark.parametrize("classes", [None, 2, ["ground", "crack"]])
def test_binary_masks_of_0_and_255(classes, tmp_path, capsys):
    """w01."""
    root = tmp_path / "mine"
    for split in ("train", "val"):
        pair(root, f"images/{split}/a.jpg", f"masks/{split}/a.png", [[0, 255, 255], [0, 0, 255]])
    cfg = load(root, classes=classes)
    assert masks_of(cfg)["images/train/a.jpg"].tolist() == [[0, 1, 1], [0, 0, 1]]
    assert len(cfg.test_dataloader.dataset.metainfo.classes) == 2
    TASK.check_data(cfg)
    if isinstance(classes, list):
        assert names_of(cfg) == classes
    else:
        assert "masks of 0 and 255 are read as background and object" in capsys.readouterr().err


def ade(root, values):
    for split in ("training", "validation"):
        for i in range(2):
            pair(root, f"images/{split}/{i}.jpg", f"annotations/{split}/{i}.png", values)
    return root


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (
            [[0, 255]],
            dict(classes=["crack"]),
            "have the values 0 and 255 alone, and 255 is taken as unlabelled; allowed",
        ),
        ([[0, 255]], dict(classes=["ground", "crack"], reduce_zero_label=False), "have the values 0 and 255 alone"),
        (
            [[0, 1]],
            dict(classes=["crack"]),
            "0 is taken as unlabelled, so that all pixels are of the class crack; allowed",
        ),
        (
            [[0, 1]],
            dict(classes=["ground", "crack"]),
            "so that all pixels are of the class ground; allowed: reduce_zero",
        ),
        (
            [[3, 3]],
            dict(classes=4, reduce_zero_label=False),
            "labelled pixels of the class class 3 alone; allowed: two",
        ),
    ],
)
def test_masks_from_which_nothing_is_learned(values, options, words, tmp_path):
    """w01 and w02, in ADE20K's layout without data_format."""
    assert words in error_of(ade(tmp_path / "d", values), data_format=None, **options)


def test_what_the_lines_above_propose_works(tmp_path):
    root = ade(tmp_path / "a", [[0, 255]])
    cfg = load(root, data_format=None, legend={"background": 0, "object": 255})
    TASK.check_data(cfg)
    assert masks_of(cfg)["images/training/0.jpg"].tolist() == [[0, 1]] and names_of(cfg) == ["background", "object"]
    cfg = load(ade(tmp_path / "b", [[0, 1]]), data_format=None, classes=["ground", "crack"], reduce_zero_label=False)
    TASK.check_data(cfg)
    assert masks_of(cfg)["images/training/0.jpg"].tolist() == [[0, 1]]


LEGEND = {"road": [128, 64, 128], "car": [0, 0, 142], "void": [0, 0, 0]}
COLOURED = COLOURS[[[0, 1, 2], [2, 1, 0]]]


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_colours_with_a_legend(mode, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(COLOURED).convert(mode).save(path)
    if mode == "P":
        Image.fromarray(COLOURED).quantize(3).save(path)
    assert read_mask(path, 2, False, checked_legend(LEGEND)).tolist() == [[255, 0, 1], [1, 0, 255]]
    with pytest.raises(
        UserError, match=r"a\.png: colours \[0, 0, 0\] are not in the legend; allowed: \[128, 64, 128\]"
    ):
        read_mask(path, 2, False, checked_legend({"road": [128, 64, 128], "car": [0, 0, 142]}))
    some = checked_legend({"car": [0, 0, 142], "ignore": "rest"})
    assert read_mask(path, 1, False, some).tolist() == [[255, 255, 0], [0, 255, 255]]


def test_palette_images_without_a_legend_keep_their_indices(tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        pair(root, f"images/{split}/a.jpg", f"masks/{split}/a.png")
        image = Image.fromarray(VALUES).convert("P")
        image.putpalette([9, 9, 9] * 256)
        image.putdata(VALUES.ravel().tolist())
        image.save(root / f"masks/{split}/a.png")
    assert masks_of(load(root))["images/train/a.jpg"].tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("class_dict.csv", ["name,r,g,b", "road,128,64,128", "car,0,0,142", "Void,0,0,0"]),
        ("label_colors.txt", ["128 64 128\troad", "0 0 142\tcar", "0 0 0\tVoid"]),
        ("labelmap.txt", ["# label:color_rgb:parts:actions", "road:128,64,128::", "car:0,0,142::", "Void:0,0,0::"]),
        ("legend.json", [json.dumps({"road": [128, 64, 128], "car": [0, 0, 142], "Void": [0, 0, 0]})]),
    ],
)
def test_legends_in_files(name, lines, tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        pair(root, f"{split}/images/a.jpg", f"{split}/masks/a.png", COLOURED)
    assert (
        "masks have colours, such as [0, 0, 0], [0, 0, 142], [128, 64, 128]; allowed: legend={'name': [R"
        in error_of(root)
    )
    text(root / name, *lines)
    cfg = load(root)
    assert names_of(cfg) == ["road", "car"]
    assert masks_of(cfg)["train/images/a.jpg"].tolist() == [[255, 0, 1], [1, 0, 255]]
    (root / name).rename(root / "mine.txt" if not name.endswith("json") else root / "mine.json")
    cfg = load(root, legend="mine.txt" if not name.endswith("json") else "mine.json")
    assert names_of(cfg) == ["road", "car"]
    assert "classes=['a', 'b'], and the data have road, car" in error_of(root, legend=LEGEND, classes=["a", "b"])


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["Pixel Value, Class", "0, background", "1, traffic light"], {"background": 0, "traffic light": 1}),
        (["sky", "road", "car"], {"sky": 0, "road": 1, "car": 2}),
        (["7 sky", "9 road"], {"sky": 7, "road": 9}),
    ],
)
def test_lists_of_values_are_legends(lines, wanted, tmp_path):
    assert read_legend(text(tmp_path / "a.txt", *lines)) == wanted


@pytest.mark.parametrize(
    ("legend", "words"),
    [
        ({}, "legend={}; allowed: {'name': VALUE"),
        ({"a": "x"}, "'a' is 'x'; allowed: a value from 0, or a colour"),
        ({"a": [1, 2]}, "'a' is [1, 2]; allowed"),
        ({"a": [1, 2, 300]}, "'a' is [1, 2, 300]; allowed"),
        ({"a": 1, "b": 1}, "several names have 1; allowed: each value or colour once"),
        ({"a": 1, "b": [1, 2, 3]}, "values and colours; allowed: one kind"),
        ({"ignore": 1}, "0 classes; allowed: 1 to 254"),
        ("gone.txt", "legend='gone.txt' is no file; allowed"),
    ],
)
def test_flawed_legends(legend, words, tmp_path):
    assert words in error_of(ade(tmp_path / "d", [[0, 1]]), data_format=None, legend=legend)


def test_cityscapes_layout(tmp_path):
    root = tmp_path / "city"
    for split in ("train", "val"):
        stem = f"{split}/aachen/x_0"
        pair(root, f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png", [[7, 33, 4]])
        picture(root / f"gtFine/{stem}_gtFine_color.png", (3, 1))
    cfg = load(root)
    assert masks_of(cfg) == {"leftImg8bit/train/aachen/x_0_leftImg8bit.png": pytest.approx(np.array([[0, 18, 255]]))}
    assert names_of(cfg)[0] == "road" and len(names_of(cfg)) == 19
    for split in ("train", "val"):
        mask_file(root / f"gtFine/{split}/aachen/x_0_gtFine_labelTrainIds.png", [[0, 18, 255]])
    (found,) = masks_of(load(root)).values()
    assert found.tolist() == [[0, 18, 255]]


def test_voc_layout(tmp_path):
    root = tmp_path / "VOC2012"
    for name, split in (("a", "train"), ("b", "val")):
        pair(root, f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png", [[0, 20, 255]])
        mask_file(root / f"SegmentationObject/{name}.png", [[0, 1, 255]])
        text(root / f"ImageSets/Segmentation/{split}.txt", name)
    cfg = load(root)
    assert {name: found.tolist() for name, found in masks_of(cfg).items()} == {"JPEGImages/a.jpg": [[0, 20, 255]]}
    assert names_of(cfg)[0] == "background" and names_of(cfg)[20] == "tvmonitor"
    text(root / "ImageSets/Segmentation/val.txt", "b", "c")
    assert "val.txt:2: 'c' has no JPEGImages/c.jpg and SegmentationClass/c.png" in error_of(root)


def test_ade20ks_classes_by_name(tmp_path):
    root = ade(tmp_path / "ade", [[0, 1, 150]])
    cfg = load(root, data_format="ade20k")
    assert names_of(cfg)[:2] == ["wall", "building"] and len(names_of(cfg)) == 150
    assert masks_of(cfg)["images/training/0.jpg"].tolist() == [[255, 0, 149]]
    text(root / "objectInfo150.txt", "Idx Ratio Train Val Stuff Name")  # which the data set brings
    assert names_of(load(root)) == names_of(cfg)
    assert "no mask with the name of an image, in the layout cityscapes" in error_of(root, data_format="cityscapes")


def test_two_files_of_one_name(tmp_path):
    """m02."""
    root = tmp_path / "mine"
    pair(root, "images/train/a.jpg", "masks/train/a.png")
    picture(root / "images/train/a.png", (3, 2))
    assert "images/train/a.jpg, images/train/a.png have one name; allowed: one file of a name" in error_of(root)


def test_lists_and_suffixes_of_mmseg_count(tmp_path):
    """w14: ``ann_file``, ``img_suffix`` and ``seg_map_suffix``."""
    root = tmp_path / "d"
    for i in range(3):
        pair(root, f"all/{i}_rgb.jpg", f"truth/{i}_id.png", VALUES + (VALUES < 255))
    text(root / "train.txt", "0", "2_rgb.jpg")
    text(root / "val.txt", "1")
    options = {"classes": 3, "data_format": None}
    for split in ("train", "val"):
        dataset = f"{split}_dataloader.dataset"
        options |= {f"{dataset}.ann_file": f"{split}.txt", f"{dataset}.img_suffix": "_rgb.jpg"}
        options |= {f"{dataset}.data_prefix": dict(img_path="all", seg_map_path="truth")}
        options |= {f"{dataset}.seg_map_suffix": "_id.png"}
    cfg = load(root, **options)
    TASK.check_data(cfg)
    assert list(masks_of(cfg)) == ["all/0_rgb.jpg", "all/2_rgb.jpg"] and list(masks_of(cfg, "val")) == ["all/1_rgb.jpg"]
    text(root / "val.txt", "1", "7")
    assert "val.txt:2: no image '7' in" in error_of(root, **options)
    (root / "truth/0_id.png").rename(root / "truth/0.png")
    message = error_of(root, **options)
    assert "1 of 2 images" in message and "no mask of the same name and the suffix _id.png" in message


def test_outlines_are_drawn_as_masks(tmp_path):
    root = tmp_path / "mine"
    for split in ("train", "val"):
        own_files.labelme_file(
            root,
            split,
            "a",
            [
                own_files.shape("cat", "rectangle", [[4, 6], [14, 26]]),
                own_files.shape("dog", "polygon", [[6, 8], [10, 8], [10, 12], [6, 12]]),
            ],
        )
    cfg = load(root)
    assert names_of(cfg) == ["background", *NAMES] and cfg.reduce_zero_label is False
    wanted = np.zeros(SIZES["a"][::-1], int)
    wanted[6:26, 4:14] = 1
    wanted[8:12, 6:10] = 2  # the smaller one lies above, whatever the order
    assert np.array_equal(masks_of(cfg)["train/a.jpg"], wanted)
    TASK.check_data(cfg)
    assert not list(root.rglob("*.png"))


def test_crowds_and_boxes_alone_are_unlabelled(tmp_path):
    content = own_files.coco_content()
    content["annotations"][0].update(iscrowd=1, segmentation=own_files.runs(own_files.CAT, SIZES["a"]))
    root = own_files.coco(own_files.coco(tmp_path / "mine", content), split="val")
    mask = masks_of(load(root))["train/a.jpg"]
    assert (mask == 255).sum() == 200 and (mask[6:26, 4:14] == 255).all() and (mask == 0).sum() == 1000
    root = own_files.yolo(tmp_path / "yolo")
    found = masks_of(load(root))
    assert (found["images/train/a.jpg"] == 255).sum() == 200 and (found["images/train/b.jpg"] == 2).sum() == 100
    assert "all objects are boxes; allowed for segmentation: outlines" in error_of(
        own_files.boxes_csv(tmp_path / "csv")
    )


def test_a_share_is_taken_for_validation_by_the_classes_of_the_masks(tmp_path):
    root = tmp_path / "mine"
    for i in range(20):
        pair(root, f"images/{i:02d}.jpg", f"masks/{i:02d}.png", [[0, 1 + (i % 10 == 0)]])
    assert "all images are of one set; allowed: val_share=0.2" in error_of(root)
    cfg = load(root, val_share=0.5)
    TASK.check_data(cfg)
    parts = [masks_of(cfg, split) for split in ("train", "val")]
    assert [len(part) for part in parts] == [10, 10]
    assert [sum((mask == 2).any() for mask in part.values()) for part in parts] == [1, 1]


def test_a_folder_goes_into_a_segmenter(tmp_path):
    """The model gets the number of classes. A test set of its own is tested on, also by the config of a checkpoint."""
    root = tmp_path / "mine"
    for split in ("train", "val", "test"):
        pair(root, f"images/{split}/a.jpg", f"masks/{split}/a.png")
    options = {"data_root": str(root), "data_format": "auto", "data_cache": str(tmp_path / "cache")}
    cfg = load_config(LEAF, options | {"model.decode_head.loss_decode.class_weight": None})
    assert cfg.model.decode_head.num_classes == 3
    assert "/test-" in cfg.test_dataloader.dataset.pairs and "/val-" in cfg.val_dataloader.dataset.pairs
    parts = own_testing.testing_parts(cfg.to_dict())
    assert parts["test_dataloader"]["dataset"]["pairs"] == cfg.test_dataloader.dataset.pairs
    assert parts["data_format"] == "auto" and "data_cache" not in parts


def test_the_classes_of_a_model_stay_for_other_data(tmp_path):
    """A checkpoint's config, which has no top-level classes, is completed for data of fewer values or other classes."""
    root, other = tmp_path / "mine", tmp_path / "other"
    for split in ("train", "val"):
        pair(root, f"images/{split}/a.jpg", f"masks/{split}/a.png", [[0, 1, 3]])
        pair(other, f"images/{split}/a.jpg", f"masks/{split}/a.png", [[0, 1, 2]])
    cfg = load(root, classes=["x", "y", "z"])
    cfg.classes, cfg.data_root = None, str(other)
    TASK.complete(cfg)
    assert names_of(cfg) == ["x", "y", "z"] and masks_of(cfg)["images/train/a.jpg"].tolist() == [[255, 0, 1]]
    own = load(root, legend=dict(a=0, b=3, ignore="rest"), test_evaluator=dict(type="FullIoUMetric")).to_dict()
    assert own_testing.testing_parts(own)["test_dataloader"]["dataset"]["legend"] == dict(a=0, b=3, ignore="rest")

    cfg = load(own_files.labelme(tmp_path / "drawn"))
    for split in ("train", "val"):
        shapes = [
            own_files.shape("dog", "rectangle", [[4, 6], [14, 26]]),
            own_files.shape("ant", "rectangle", [[0, 0], [2, 2]]),
        ]
        own_files.labelme_file(tmp_path / "more", split, "a", shapes)
    cfg.data_root = str(tmp_path / "more")
    TASK.complete(cfg)
    assert names_of(cfg) == ["background", *NAMES]
    (mask,) = masks_of(cfg).values()
    assert (mask[6:26, 4:14] == 2).all() and (mask[:2, :2] == 255).all() and (mask == 0).sum() == 1200 - 204
