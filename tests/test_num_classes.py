"""The classes that a user chooses reach every data set and head, or a line says why not."""

import copy
from pathlib import Path

import dense_data
import pytest
from mmengine.config import Config
from PIL import Image

from backbones import UserError
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.splits import SPLITS, datasets_of

DETECTION = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
SEGMENTATION = "segmentation/configs/demo/upernet_van_b0_digits.py"
CLASSIFICATION = "classification/configs/demo/van_b0_digits.py"
DEMOS = [DETECTION, SEGMENTATION, CLASSIFICATION]
ALIKE = [f"model.{head}.loss_decode.class_weight=None" for head in ("decode_head", "auxiliary_head")]


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def data_of(config, root):
    """Data of the classes box and disc, in the layout of the config's task."""
    if config == DETECTION:
        return dense_data.write_coco(root)
    if config == SEGMENTATION:
        return dense_data.write_masks(root)
    for split in ("train", "val"):
        for name in dense_data.CLASSES:
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (48, 48)).save(root / split / name / "0.png")
    return root


def names_of(cfg):
    """The class names of all data sets of a config."""
    sets = [dataset for split in SPLITS for dataset in datasets_of(cfg, split)]
    return {tuple(dataset.get("classes") or (dataset.get("metainfo") or {}).get("classes") or ()) for dataset in sets}


def counts_of(part):
    """Every ``num_classes`` in a model."""
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    own = {part["num_classes"]} if isinstance(part, dict) and "num_classes" in part else set()
    return own.union(*map(counts_of, values))


def options_of(config):
    return ALIKE if config == SEGMENTATION else []


def dumped(config, path, options=()):
    """The file of a completed config, as a run or print_config.py writes it."""
    cfg = load_config(config, [*options, *options_of(config)])
    path.write_text(cfg.pretty_text)
    return path


@pytest.mark.parametrize("config", DEMOS)
def test_an_option_replaces_the_classes_of_a_dumped_config(config, tmp_path):
    path = dumped(config, tmp_path / "mine.py", [f"data_root={data_of(config, tmp_path / 'data')}"])
    assert names_of(load_config(path)) != {("disc",)}
    cfg = load_config(path, ["classes=[disc]"])
    assert names_of(cfg) == {("disc",)} and counts_of(cfg.model) == {1}
    if config != CLASSIFICATION:
        assert all(len(d.metainfo.palette) == 1 for split in SPLITS for d in datasets_of(cfg, split))


@pytest.mark.parametrize("config", DEMOS)
def test_a_child_file_replaces_the_classes_of_a_dumped_config(config, tmp_path):
    dumped(config, tmp_path / "mine.py", ["classes=[a,b]", "data_root=nowhere"])
    (tmp_path / "child.py").write_text('_base_ = "mine.py"\nclasses = ["c", "d", "e"]\n')
    cfg = load_config(tmp_path / "child.py")
    assert names_of(cfg) == {("c", "d", "e")} and counts_of(cfg.model) == {3}


@pytest.mark.parametrize("config", DEMOS)
def test_completing_chosen_classes_again_changes_nothing(config):
    cfg = load_config(config, ["classes=[a,b]", "data_root=nowhere", *options_of(config)])
    once = cfg.to_dict()
    complete(cfg)
    assert cfg.to_dict() == once


@pytest.mark.parametrize("config", DEMOS)
def test_data_sets_keep_their_own_classes_without_a_choice(config, tmp_path, request):
    own = '["x", "y"]' if config == CLASSIFICATION else 'dict(classes=("x", "y"))'
    key = "classes" if config == CLASSIFICATION else "metainfo"
    text = f'_base_ = "{request.config.rootpath / config}"\n' + "".join(
        f"{split}_dataloader = dict(dataset=dict({key}={own}))\n" for split in ("train", "val")
    )
    path = tmp_path / "mine.py"
    path.write_text(text)
    options = [*options_of(config), f"data_root={data_of(config, tmp_path / 'data')}"]
    if config == SEGMENTATION:
        options += [f"{split}_dataloader.dataset.metainfo.palette=None" for split in ("train", "val")]
    cfg = load_config(path, options)
    assert names_of(cfg) == {("x", "y")} and counts_of(cfg.model) == {2}


def test_a_palette_stays_while_it_has_a_colour_for_each_class():
    names = [str(i) for i in range(11)]
    kept, number = (load_config(SEGMENTATION, {"classes": classes}) for classes in (names, 11))
    before = load_config(SEGMENTATION).train_dataloader.dataset.metainfo
    assert kept.train_dataloader.dataset.metainfo == {"classes": tuple(names), "palette": before.palette}
    assert names_of(number) == {tuple(before.classes)}  # a number renames nothing


def test_chosen_classes_of_class_folders_leave_out_the_others(tmp_path):
    from classification import TASK

    path = dumped(CLASSIFICATION, tmp_path / "mine.py", [f"data_root={data_of(CLASSIFICATION, tmp_path / 'data')}"])
    cfg = load_config(path, ["classes=[disc]"])
    TASK.check_data(cfg)
    assert TASK.build_dataset(cfg, "train").classes == ["disc"]


CHILD = """
_base_ = "{base}"
custom_imports = dict(imports=["{task}"])
"""


def child(path, task, base, **more):
    lines = [f"{key} = {value!r}" for key, value in more.items()]
    path.write_text(CHILD.format(base=base, task=task) + "\n".join(lines))
    return path


@pytest.mark.parametrize(
    "base", ["pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"]
)
def test_every_data_set_of_mmdet_takes_chosen_classes(base, tmp_path):
    path = child(tmp_path / "mine.py", "detection", f"mmdet::{base}", classes=["cat", "dog"])
    cfg = load_config(path)
    assert names_of(cfg) == {("cat", "dog")} and counts_of(cfg.model) == {2}


def test_crowd_human_takes_chosen_classes(tmp_path):
    from mmdet.registry import DATASETS

    loader = dict(dataset=dict(type="CrowdHumanDataset", data_root="nowhere/", ann_file="boxes.odgt"))
    own = dict(train_dataloader=loader, model=dict(bbox_head=dict(num_classes=1)))
    path = child(
        tmp_path / "mine.py", "detection", "mmdet::_base_/default_runtime.py", classes=["person", "mask"], **own
    )
    cfg = load_config(path)
    assert counts_of(cfg.model) == {2}
    made = DATASETS.get("CrowdHumanDataset")._load_metainfo(cfg.train_dataloader.dataset.metainfo)
    assert made["classes"] == ("person", "mask")


def test_every_data_set_of_mmseg_takes_chosen_classes(tmp_path):
    import mmseg

    base = Path(mmseg.__file__).parent / ".mim/configs/fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py"
    cfg = load_config(child(tmp_path / "mine.py", "segmentation", base, classes=["road", "car"]))
    assert names_of(cfg) == {("road", "car")} and counts_of(cfg.model) == {2}
    assert "reduce_zero_label" not in cfg.train_dataloader.dataset


def test_mms_configs_stay_without_a_choice(tmp_path):
    base = "pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py"
    cfg = load_config(child(tmp_path / "mine.py", "detection", f"mmdet::{base}"))
    assert names_of(cfg) == {()} and counts_of(cfg.model) == {20}


def test_a_data_set_that_reads_its_classes_takes_no_others(tmp_path):
    base = "mmdet::openimages/faster-rcnn_r50_fpn_32xb2-1x_openimages.py"
    assert counts_of(load_config(child(tmp_path / "mine.py", "detection", base)).model) == {601}
    with pytest.raises(UserError, match=r"^classes=\[cat\]: OpenImagesDataset takes its classes from its own files"):
        load_config(tmp_path / "mine.py", ["classes=[cat]"])


def test_stuff_maps_keep_their_classes(tmp_path):
    path = child(tmp_path / "mine.py", "detection", "mmdet::htc/htc_r50_fpn_1x_coco.py", classes=["a", "b", "c"])
    roi = load_config(path).model.roi_head
    assert roi.semantic_head.num_classes == 183
    assert counts_of(roi.bbox_head) == counts_of(roi.mask_head) == {3}
    panoptic = dict(
        semantic_head=dict(num_things_classes=80, num_stuff_classes=53),
        panoptic_fusion_head=dict(num_things_classes=80, num_stuff_classes=53),
    )
    set_num_classes(panoptic, 3)
    assert panoptic["semantic_head"] == panoptic["panoptic_fusion_head"]
    assert panoptic["semantic_head"]["num_things_classes"] == 3


def error_of(config, options):
    with pytest.raises(UserError) as error:
        load_config(config, options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 250
    return message


@pytest.mark.parametrize("config", DEMOS)
@pytest.mark.parametrize(
    "classes",
    ["[road,car,tree]", "(road,car)", " [road]", "-1", "+3", "2.5", "", -1, 0, True, [], [["a", "b"]], 300],
)
def test_classes_that_are_no_names_are_refused(config, classes):
    message = error_of(config, {"classes": classes})
    assert message.startswith("classes=") and "allowed: " in message


@pytest.mark.parametrize("option", ["classes=-1", "classes='[a,b]'", "classes=300"])
def test_such_options_are_refused(option):
    assert error_of(SEGMENTATION, [option]).replace("'", "").startswith(option.replace("'", "") + "; allowed: ")


@pytest.mark.parametrize("names", [[f"n{i}" for i in range(300)], ["a", "b", "a", "b"] * 50])
def test_long_lists_are_shortened(names):
    assert error_of(SEGMENTATION, {"classes": names}).startswith(f"classes=[{', '.join(names[:3])}, ...")


@pytest.mark.parametrize("classes", ["cat", ["7"], ["-1"], [0, 1]])
def test_names_that_look_like_numbers_stand_in_a_list(classes):
    cfg = load_config(DETECTION, {"classes": classes, "data_root": "nowhere"})
    assert names_of(cfg) == {tuple(map(str, [classes] if isinstance(classes, str) else classes))}


@pytest.mark.parametrize("key", ["reduce_zero_label", "train_dataloader.dataset.reduce_zero_label"])
@pytest.mark.parametrize("value", ["no", "off", "False", 2, []])
def test_reduce_zero_label_is_a_bool(key, value):
    assert error_of(SEGMENTATION, {key: value}) == f"{key}={value!r}; allowed: True, False"


def test_reduce_zero_label_of_a_dumped_config_is_not_dropped(tmp_path):
    path = dumped(SEGMENTATION, tmp_path / "mine.py")
    message = error_of(path, {"reduce_zero_label": False})
    assert message.startswith("train_dataloader.dataset.reduce_zero_label=True, and reduce_zero_label=False; allowed: ")
    both = {f"{split}_dataloader.dataset.reduce_zero_label": False for split in SPLITS}
    assert load_config(path, {"reduce_zero_label": False} | both).val_dataloader.dataset.reduce_zero_label is False
    mixed = {"reduce_zero_label": None, "train_dataloader.dataset.reduce_zero_label": False}
    cfg = load_config(SEGMENTATION, mixed)
    assert [cfg[f"{split}_dataloader"].dataset.reduce_zero_label for split in SPLITS] == [False, True, True]


@pytest.mark.parametrize("config", DEMOS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_dataloader", 3),
        ("train_dataloader", {"_delete_": True, "batch_size": 2}),
        ("train_dataloader.dataset", None),
        ("train_dataloader.dataset", 3),
        ("val_dataloader.dataset", "digits"),
        ("val_dataloader", [1]),
        ("train_dataloader.dataset", {"type": "RepeatDataset", "dataset": 3, "times": 2}),
        ("train_dataloader.dataset", {"type": "ConcatDataset", "datasets": [3]}),
        ("val_evaluator", 3),
        ("test_evaluator", [3]),
        ("val_cfg", 3),
        ("val_dataloader.dataset.metainfo", "names"),
    ],
)
def test_parts_that_are_no_dicts_are_named(config, key, value):
    message = error_of(config, {key: copy.deepcopy(value)})  # merging pops _delete_
    assert message.startswith(key.removesuffix(".dataset")) and "allowed: dict(" in message


def test_the_data_sets_of_a_wrapper_are_named():
    wrapper = {"_delete_": True, "type": "ConcatDataset", "datasets": [{"type": "RepeatDataset", "dataset": 3}]}
    message = error_of(DETECTION, {"train_dataloader.dataset": wrapper})
    assert message.startswith("train_dataloader.dataset.datasets.0.dataset=3; allowed: dict(")
    wrapper = {"_delete_": True, "type": "ConcatDataset", "datasets": 3}
    assert "dataset.datasets=3; allowed: a list" in error_of(DETECTION, {"train_dataloader.dataset": wrapper})


def test_a_data_set_alone_may_be_left_out():
    cfg = load_config(CLASSIFICATION, {"train_dataloader": None, "train_cfg": None, "optim_wrapper": None})
    assert cfg.train_dataloader is None and isinstance(cfg, Config)
