"""COCO data before a run.

Classes follow the annotation file. One option moves the data. Every flaw in a user's data is one clear line.
"""

import json
import shutil

import dense_data
import pytest
from PIL import Image

from backbones import UserError
from backbones.images import ORIENTATION
from ziggurat.engine.config import load_config

CONFIG = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
BOXES_ONLY = "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return dense_data.write_coco(tmp_path_factory.mktemp("coco") / "data")


@pytest.fixture
def coco(original, tmp_path):
    return shutil.copytree(original, tmp_path / "own")


def change(root, split, edit):
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def error_of(root, config=CONFIG, **options):
    from detection import TASK

    with pytest.raises(UserError) as error:
        TASK.check_data(load_config(config, {"data_root": str(root), **options}))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_classes_and_num_classes_follow_the_annotation_file(coco):
    from detection import TASK

    cfg = load_config(CONFIG, {"data_root": str(coco)})
    assert tuple(cfg.train_dataloader.dataset.metainfo.classes) == dense_data.CLASSES
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == str(coco / "annotations/instances_val2017.json")
    assert cfg.test_dataloader.dataset.data_root == str(coco)
    TASK.check_data(cfg)


def test_labels_carry_the_right_names(coco):
    """Category ids 7 (box) and 3 (disc): label 0 must be the box, as the order of the classes says."""
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    cfg = load_config(CONFIG, {"data_root": str(coco)})
    data = DATASETS.build(cfg.train_dataloader.dataset | dict(pipeline=[], serialize_data=False))
    boxes = {i["bbox_label"]: i["bbox"] for i in data.get_data_info(0)["instances"]}
    truth = dict(dense_data.scene(0)[1])
    assert set(boxes) == {0, 1}
    for label, (x0, y0, x1, y1) in boxes.items():
        assert truth[label][int((y0 + y1) / 2), int((x0 + x1) / 2)]
        assert truth[label][int(y0), int(x0)] == (dense_data.CLASSES[label] == "box")  # only a box fills its corner


def test_classes_of_the_config_win(coco):
    cfg = load_config(CONFIG, {"data_root": str(coco), "classes": ["disc"]})
    assert cfg.model.roi_head.bbox_head.num_classes == 1
    assert list(cfg.val_dataloader.dataset.metainfo.classes) == ["disc"]


def test_without_data_a_config_keeps_cocos_80_classes(tmp_path):
    cfg = load_config(CONFIG, {"data_root": str(tmp_path / "nowhere")})
    assert cfg.model.roi_head.bbox_head.num_classes == 80


def test_a_data_set_with_its_own_root_keeps_it(coco):
    cfg = load_config(CONFIG, {"data_root": "elsewhere", "train_dataloader.dataset.data_root": str(coco)})
    assert cfg.train_dataloader.dataset.data_root == str(coco)
    assert cfg.val_dataloader.dataset.data_root == "elsewhere"


def test_missing_and_empty_folders(coco, tmp_path):
    assert f"no data folder {tmp_path / 'nowhere'}" in error_of(tmp_path / "nowhere")
    for image in (coco / "train2017").iterdir():
        image.unlink()
    assert f"no images in {coco / 'train2017'}" in error_of(coco)
    (coco / "train2017").rmdir()
    assert f"no image folder {coco / 'train2017'}" in error_of(coco)


def test_missing_annotation_file_names_those_there(coco):
    (coco / "annotations/instances_train2017.json").rename(coco / "annotations/mine.json")
    message = error_of(coco)
    assert "no annotation file" in message and "mine.json" in message


def test_broken_json_names_the_place(coco):
    path = coco / "annotations/instances_train2017.json"
    path.write_text('{"images": [\n  {"id": 1,]')
    message = error_of(coco)
    assert str(path) in message and "line 2" in message


@pytest.mark.parametrize("content", [[], {}, {"images": []}, {"images": [{"id": 1}], "categories": [{"id": 1}]}])
def test_json_that_is_not_coco(coco, content):
    path = coco / "annotations/instances_train2017.json"
    path.write_text(json.dumps(content))
    assert str(path) in error_of(coco)


def test_absent_images_are_counted_and_named(coco):
    def edit(content):
        content["images"] += [dict(id=100 + i, file_name=f"gone{i}.png", height=64, width=64) for i in range(5)]

    change(coco, "train", edit)
    message = error_of(coco)
    assert "5 of 9" in message and "gone0.png, gone1.png, gone2.png" in message and "gone3.png" not in message


def test_classes_without_a_category_are_named(coco):
    message = error_of(coco, classes=["box", "cat"])
    assert "cat" in message and "box, disc" in message


@pytest.mark.parametrize("metric", ["FullCocoMetric", "CocoMetric"])
@pytest.mark.parametrize("order", [("box", "disc"), ("disc", "box")])
def test_labels_follow_the_order_of_the_classes(order, metric, coco):
    """w04: so do the scores, by mmdet's metric, too, and for a validation file of another order, or without a class."""
    change(coco, "val", lambda content: content["categories"].reverse())
    cfg = load_config(BOXES_ONLY, {"data_root": str(coco), "classes": list(order), "val_evaluator.type": metric})
    assert score_of_the_truth(cfg) == 1

    def edit(content):
        content["categories"] = [dict(id=3, name="disc")]
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 3]

    change(coco, "val", edit)
    cfg = load_config(BOXES_ONLY, {"data_root": str(coco), "val_evaluator.type": metric})
    assert list(cfg.val_dataloader.dataset.metainfo.classes) == ["box", "disc"]
    assert score_of_the_truth(cfg) == 1


def score_of_the_truth(cfg):
    """AP if the boxes of the validation set are predicted, as its data set has them with the labels of the training."""
    import torch
    from mmdet.registry import DATASETS, METRICS

    from detection import TASK

    TASK.check_data(cfg)
    with TASK.scoped(cfg):
        data = DATASETS.build(cfg.val_dataloader.dataset | dict(pipeline=[], serialize_data=False))
        metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        info = data.get_data_info(i)
        boxes = torch.tensor([one["bbox"] for one in info["instances"]]).reshape(-1, 4)
        labels = torch.tensor([one["bbox_label"] for one in info["instances"]], dtype=torch.long)
        found = dict(bboxes=boxes, scores=torch.ones(len(boxes)), labels=labels)
        metric.process({}, [dict(img_id=info["img_id"], ori_shape=(64, 64), pred_instances=found)])
        names = {cfg.train_dataloader.dataset.metainfo.classes[label] for label in labels}
        assert names <= set(dense_data.CLASSES)
    return metric.evaluate(len(data))["coco/bbox_mAP"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: [a.update(id=i) for i, a in enumerate(c["annotations"])],  # w05
        lambda c: [a.update(id=f"{i:08x}-uuid") for i, a in enumerate(c["annotations"])],  # w21
        lambda c: [a.pop("iscrowd") for a in c["annotations"]],  # w19
    ],
)
def test_annotations_of_other_ids_and_without_iscrowd_are_scored(edit, coco):
    change(coco, "val", edit)
    assert score_of_the_truth(load_config(BOXES_ONLY, {"data_root": str(coco)})) == 1


def test_a_byte_order_mark_is_no_flaw(coco):
    """w22."""
    for path in coco.glob("annotations/*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert score_of_the_truth(load_config(BOXES_ONLY, {"data_root": str(coco)})) == 1


def test_objects_of_no_class_are_told(coco, capsys):
    from detection import TASK

    TASK.check_data(load_config(BOXES_ONLY, {"data_root": str(coco), "classes": ["disc"]}), ("val",))
    assert "2 annotations are of 1 categories that the classes leave out: box" in capsys.readouterr().err


def test_the_categories_of_a_large_file_are_read_alone(coco, monkeypatch):
    from detection import coco_file as reader

    path = coco / "annotations/instances_train2017.json"
    whole = reader.category_names(path)
    monkeypatch.setattr(reader, "LARGE", 1 << 10)
    monkeypatch.setattr(reader, "read_annotations", lambda path: pytest.fail("the whole file was read"))
    assert reader.category_names(path) == whole == dense_data.CLASSES
    change(coco, "train", lambda content: content.update(info={"categories": [{"name": "no"}]}))
    monkeypatch.setattr(reader, "read_annotations", lambda path: pytest.fail("in doubt"))
    with pytest.raises(pytest.fail.Exception, match="in doubt"):
        reader.category_names(path)


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda c: c["annotations"][0].update(image_id=99), "image ids that are not in the list of images: 99"),
        (
            lambda c: c["annotations"][0].update(category_id=55),
            "category ids that are not in the list of categories: 55",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "bbox must be"),
        (lambda c: c["annotations"][0].update(id=2), "share ids"),
        (lambda c: c["annotations"][0].pop("segmentation"), "have no segmentation"),
        (lambda c: c["categories"][0].update(name="disc"), "several categories"),
        (lambda c: c["annotations"].clear(), "no annotations"),
        (
            lambda c: c["annotations"][0].pop("image_id"),
            "image_id of annotations 0, counted from 0, is absent; allowed: an integer or a text",
        ),
        (lambda c: c["annotations"][2].update(bbox=[9, 9, -3, 4]), "not so in the annotations 3"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 3]), "bbox must be"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 3]), "bbox must be"),
        (lambda c: c["annotations"][4].pop("area"), "no area in square pixels: 5"),
        (lambda c: c["images"][1].update(id=1), "several images have the id 1"),
        (lambda c: c["categories"][1].update(id=7), "several categories have the id 7"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[64, 63]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 1, 9, 9]]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0].update(segmentation=[[]]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 1, 9, 1, 9, "9"]]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 1, 9, 1, 9, None]]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts="xx~~garbage"), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts=[9, 9]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][0]["segmentation"].update(counts=[-9, 4105]), "bad masks of the annotations 1;"),
        (lambda c: c["annotations"][2].update(iscrowd="no"), "iscrowd must be 0 or 1; not so in the annotations 3"),
        (lambda c: c["annotations"][0].update(segmentation=[1, 1, 9, 9, 1, 9]), "bad masks of the annotations 1;"),
        (lambda c: [a.update(bbox=[5, 5, 0, 7]) for a in c["annotations"]], "no annotation is left to train on"),
    ],
)
def test_flawed_annotations(coco, edit, words):
    change(coco, "train", edit)
    assert words in error_of(coco)


def test_boxes_without_an_area_are_left_out_and_counted(coco, capsys):
    """The numbers in the note are those of mmdet's data set."""
    from mmdet.registry import DATASETS

    from detection import TASK

    boxes = {1: [5, 5, 0, 9], 4: [5, 5, 9, 0.5], 5: [70, 3, 9, 9], 6: [-3, -3, 9, 9]}  # the last is partly inside

    def edit(content):
        for annotation in content["annotations"]:
            annotation["bbox"] = boxes.get(annotation["id"], annotation["bbox"])
        content["annotations"][6]["area"] = 0
        content["annotations"][7]["iscrowd"] = 1

    change(coco, "train", edit)
    cfg = load_config(BOXES_ONLY, {"data_root": str(coco)})
    TASK.check_data(cfg)
    assert "left out of the training: 4 annotations; their boxes have" in capsys.readouterr().err
    with TASK.scoped(cfg):
        data = DATASETS.build(cfg.train_dataloader.dataset | dict(pipeline=[], serialize_data=False))
    found = [one for i in range(len(data)) for one in data.get_data_info(i)["instances"]]
    assert len(found) == 4 and sum(one["ignore_flag"] for one in found) == 1
    wanted = [sum(one["bbox_label"] == label and not one["ignore_flag"] for one in found) for label in (0, 1)]
    from detection.coco import CocoFormat

    assert CocoFormat().counts(cfg.train_dataloader.dataset) == wanted


@pytest.mark.parametrize("split", ["val", "test"])
def test_boxes_that_cannot_be_found_are_noted_before_a_test(split, coco, capsys):
    from detection import TASK

    TASK.check_data(load_config(CONFIG, {"data_root": str(coco)}), (split,))
    assert "note" not in capsys.readouterr().err
    change(coco, "val", lambda content: content["annotations"][1].update(bbox=[5, 5, 0, 0], area=0))
    TASK.check_data(load_config(CONFIG, {"data_root": str(coco)}), (split,))
    assert "instances_val2017.json: 1 annotations count in the metrics, and no training" in capsys.readouterr().err


def test_crowds_are_no_objects_in_training(coco):
    from detection import TASK

    change(coco, "train", lambda content: content["annotations"][0].update(iscrowd=1))
    cfg = load_config(CONFIG, {"data_root": str(coco)})
    sample = TASK.build_dataset(cfg, "train")[0]["data_samples"]
    assert sample.gt_instances.labels.tolist() == [1] and sample.ignored_instances.labels.tolist() == [0]
    assert len(sample.gt_instances.masks) == 1


def test_images_of_another_size_than_the_file_says(coco):
    """Said before the run, or where the image is loaded; what counts is the upright image."""
    from detection import TASK

    path = coco / "train2017/0002.png"
    change(coco, "train", lambda content: content["images"][2].update(width=32, height=128))
    message = error_of(coco, BOXES_ONLY)
    assert f"{path} has 64x64 pixels, and by {coco}" in message and "json 32x128; allowed: the same size" in message
    cfg = load_config(BOXES_ONLY, {"data_root": str(coco)})
    data = TASK.build_dataset(cfg, "train")
    with pytest.raises(UserError, match=r"0002\.png has 64x64 pixels, and by its annotations 32x128; allowed"):
        data[2]
    turned = Image.new("RGB", (128, 32))
    turned.getexif()[ORIENTATION] = 6
    turned.save(path, exif=turned.getexif())
    TASK.check_data(cfg)
    assert data[2]["data_samples"].ori_shape == (128, 32)


def test_images_that_are_all_too_small_to_train_on(coco):
    for split in ("train", "val"):
        change(coco, split, lambda content: [image.update(width=64, height=31) for image in content["images"]])
    assert "are too small, by their width and height in the file; allowed: 32x32 pixels and larger" in error_of(coco)


def test_a_detector_without_masks_needs_none(coco):
    from detection import TASK

    for split in ("train", "val"):
        change(coco, split, lambda content: [a.pop("segmentation") for a in content["annotations"]])
    TASK.check_data(load_config(BOXES_ONLY, {"data_root": str(coco)}))


def test_masks_that_a_metric_scores_are_looked_for_before_the_run(coco):
    """Otherwise the first validation would end the training."""
    change(coco, "val", lambda content: content["annotations"][0].pop("segmentation"))
    message = error_of(coco)
    assert "instances_val2017.json: 1 annotations have no segmentation, and val_evaluator scores masks" in message
    from detection import TASK

    for metric in ("bbox", ["bbox"]):
        options = {"data_root": str(coco), "val_evaluator.metric": metric}
        TASK.check_data(load_config(CONFIG, options))
    with pytest.raises(UserError, match="test_evaluator scores masks"):
        TASK.check_data(load_config(CONFIG, options | {"test_evaluator.metric": ["boundary"]}))


def test_a_metric_that_reads_another_file_is_named(coco, capsys):
    """w17: a config of mmdet names the annotation file twice, and one of the two is forgotten."""
    from detection import TASK

    other = coco / "annotations/old.json"
    shutil.copy(coco / "annotations/instances_train2017.json", other)
    options = {"val_evaluator.ann_file": str(other)}
    TASK.check_data(load_config(CONFIG, {"data_root": str(coco), **options}))
    assert f"val_evaluator.ann_file is {other}, and the data set reads " in capsys.readouterr().err
    content = json.loads(other.read_text())
    content["images"][0]["file_name"] = "else.png"
    other.write_text(json.dumps(content))
    message = error_of(coco, **options)
    assert "old.json, which does not name 0000.png of the data set's" in message
    assert "leave val_evaluator.ann_file out" in message


@pytest.mark.parametrize("indices", [1, [1], [0, 1]])
def test_chosen_images_alone_are_scored(indices, coco):
    """w17: the truth of the images that a data set leaves out does not count as missed."""
    cfg = load_config(BOXES_ONLY, {"data_root": str(coco), "val_dataloader.dataset.indices": indices})
    assert score_of_the_truth(cfg) == pytest.approx(1)


def test_testing_looks_at_the_test_data_only(coco):
    from detection import TASK

    shutil.rmtree(coco / "train2017")
    TASK.check_data(load_config(CONFIG, {"data_root": str(coco)}), ("test",))
