"""Completing a config: test set, data roots, channels, statistics, weights, numbers of classes.

A typed number wins over a derived one. A config that was not completed builds nothing.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from backbones import VAN, UserError
from backbones.weights import own_meta, save_safely
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.splits import complete_loaders, prepare_splits
from ziggurat.engine.tasks import task_for

ROOT = Path(__file__).resolve().parent.parent
MASK_RCNN = ROOT / "detection/configs/van/mask_rcnn_van_b2_fpn_1x_coco.py"
UPERNET = ROOT / "segmentation/configs/van/upernet_van_b2_512x512_160k_ade20k.py"
CLASSIFIER = ROOT / "classification/configs/van/van_b2_8xb128_in1k.py"
FAMILY_OF_WORDS = [MASK_RCNN, UPERNET, CLASSIFIER]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def config(**more):
    val = dict(batch_size=4, dataset=dict(type="Photos", folder="val", pipeline=["a"]))
    return Config(
        dict(
            data_root="data",
            val_dataloader=val,
            val_evaluator=dict(type="IoU", k=1),
            val_cfg=dict(type="ValLoop"),
            **more,
        )
    )


def test_testing_uses_the_validation_set():
    cfg = config()
    prepare_splits(cfg)
    assert cfg.test_dataloader == cfg.val_dataloader and cfg.test_evaluator == cfg.val_evaluator
    assert cfg.test_cfg.type == "TestLoop" and cfg.val_cfg.type == "ValLoop"
    cfg.test_dataloader.batch_size = 1
    assert cfg.val_dataloader.batch_size == 4


def test_single_test_options_change_that_copy():
    cfg = config(test_dataloader=dict(batch_size=1, dataset=dict(folder="test")), test_evaluator=dict(k=2))
    prepare_splits(cfg)
    assert cfg.test_dataloader.dataset == dict(type="Photos", folder="test", pipeline=["a"], data_root="data")
    assert cfg.test_dataloader.batch_size == 1 and cfg.test_evaluator == dict(type="IoU", k=2)


def test_a_test_set_of_its_own_stays():
    own = dict(batch_size=2, dataset=dict(type="Other", data_root="else"))
    cfg = config(test_dataloader=own, test_evaluator=[dict(type="A"), dict(type="B")])
    prepare_splits(cfg)
    assert cfg.test_dataloader == own and len(cfg.test_evaluator) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_doing_it_again_changes_nothing(times):
    cfg = config(
        train_dataloader=dict(dataset=dict(type="RepeatDataset", dataset=dict(type="Photos", data_root="own")))
    )
    for _ in range(times):
        prepare_splits(cfg)
    assert cfg.train_dataloader.dataset.dataset.data_root == "own"
    assert "data_root" not in cfg.train_dataloader.dataset
    assert cfg.val_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == "data"


def test_no_workers_need_no_second_option():
    cfg = config(
        train_dataloader=dict(num_workers=0, persistent_workers=True, prefetch_factor=2, dataset=dict(type="A"))
    )
    cfg.val_dataloader.update(num_workers=2, persistent_workers=True)
    complete_loaders(cfg)
    assert cfg.train_dataloader == dict(num_workers=0, persistent_workers=False, dataset=dict(type="A"))
    assert cfg.val_dataloader.persistent_workers


def model_of(text: str, tmp_path: Path, task: str = "detection") -> Config:
    path = tmp_path / "mine.py"
    path.write_text(f"custom_imports = dict(imports=[{task!r}])\n{text}\n")
    return load_config(path)


@pytest.mark.parametrize("leaf", FAMILY_OF_WORDS, ids=lambda path: path.stem)
def test_a_config_that_was_not_completed_builds_nothing(leaf):
    load_config(leaf)  # imports the task
    raw = Config.fromfile(leaf)
    init_default_scope(raw.default_scope)
    with torch.device("meta"), pytest.raises((AssertionError, TypeError, ValueError)):
        MODELS.build(raw.model)
    for word in ("mean", "std"):
        raw.model.data_preprocessor[word] = [1.0, 1.0, 1.0]
    if "neck" in raw.model or "decode_head" in raw.model:
        with torch.device("meta"), pytest.raises((AssertionError, TypeError, ValueError)):
            MODELS.build(raw.model)


@pytest.mark.parametrize("leaf", FAMILY_OF_WORDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("arch", ["van_b2", "vig_tiny"])
def test_a_completed_config_is_complete_also_once_dumped(leaf, arch, tmp_path):
    cfg = load_config(leaf, {"model.backbone.arch": arch})
    again = cfg.copy()
    complete(again)
    assert again.to_dict() == cfg.to_dict()
    cfg.dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").to_dict() == cfg.to_dict()


def test_numbers_that_are_typed_win():
    cfg = load_config(MASK_RCNN, {"model.data_preprocessor.mean": [1.0, 2.0, 3.0], "model.backbone.pretrained": None})
    assert cfg.model.data_preprocessor.mean == [1.0, 2.0, 3.0] and cfg.model.data_preprocessor.std == [127.5] * 3
    assert cfg.model.backbone.pretrained is None
    with pytest.raises(
        UserError, match=r"neck.in_channels is \[1, 2, 3, 4\], and the backbone's maps have \[64, 128, 320"
    ):
        load_config(MASK_RCNN, {"model.neck.in_channels": [1, 2, 3, 4]})
    with pytest.raises(UserError, match=r"auxiliary_head.in_channels is 160, and the backbone's maps have 320"):
        load_config(UPERNET, {"model.auxiliary_head.in_channels": 160})


def test_each_module_gets_the_channels_of_the_maps_that_reach_it(tmp_path):
    cfg = model_of(
        """
model = dict(
    type="Mine",
    backbone=dict(type="VAN", arch="van_b0", out_indices=(1, 2, 3)),
    neck=[dict(type="A", in_channels="backbone", out_channels=96, num_outs=5), dict(type="B", in_channels="backbone")],
    bbox_head=dict(in_channels="backbone", tower=dict(in_channels=7)),
    panoptic_head=dict(pixel_decoder=dict(in_channels="backbone"), in_channels="backbone"),
)""",
        tmp_path,
    )
    model = cfg.model
    assert model.neck[0].in_channels == [64, 160, 256] and model.neck[1].in_channels == [96] * 5
    assert model.bbox_head == dict(in_channels=96, tower=dict(in_channels=7))
    assert model.panoptic_head.in_channels == model.panoptic_head.pixel_decoder.in_channels == [96] * 5


@pytest.mark.parametrize(
    ("kind", "channels"), [("YOLOV3Neck", [256, 160, 64]), ("CTResNetNeck", 256), ("DilatedEncoder", 256)]
)
def test_necks_that_start_from_the_coarsest_map(kind, channels, tmp_path):
    def neck(typed):
        text = f"neck=dict(type={kind!r}, in_channels={typed!r})"
        backbone = 'backbone=dict(type="VAN", arch="van_b0", out_indices=(1, 2, 3))'
        return model_of(f'model = dict(type="Mine", {backbone}, {text})', tmp_path).model.neck

    assert neck("backbone").in_channels == neck(channels).in_channels == channels
    if kind == "YOLOV3Neck":
        with pytest.raises(UserError, match=r"is \[64, 160, 256\], and the backbone.s maps have \[256, 160"):
            neck([64, 160, 256])


def test_heads_without_a_neck_take_the_maps_that_in_index_names(tmp_path):
    cfg = model_of(
        """
model = dict(
    type="Mine",
    backbone=dict(type="Backbone", arch="van_b0"),
    decode_head=dict(in_channels="backbone"),
    auxiliary_head=[dict(in_channels="backbone", in_index=1), dict(in_channels="backbone", in_index=(2, 0))],
)""",
        tmp_path,
        "segmentation",
    )
    assert cfg.model.decode_head.in_channels == 256
    assert [head.in_channels for head in cfg.model.auxiliary_head] == [64, [160, 32]]


def test_one_scale_becomes_several_in_front_of_any_neck(tmp_path):
    cfg = model_of(
        """
model = dict(
    type="Mine",
    backbone=dict(type="ViG", arch="vig_tiny", out_indices=(1, 2, 3)),
    neck=dict(type="ChannelMapper", in_channels="backbone", out_channels=32, num_outs=3),
)""",
        tmp_path,
    )
    pyramid, mapper = cfg.model.neck
    assert pyramid == dict(type="SimpleFeaturePyramid", in_channels=192, out_channels=256, num_outs=3, start_level=1)
    assert mapper.in_channels == [256] * 3 and cfg.model.backbone.out_indices == (3,)


def test_words_without_a_network_of_ours_are_named(tmp_path):
    with pytest.raises(
        UserError, match=r"model.neck.in_channels='backbone' cannot be filled in: the model has no backbone"
    ):
        model_of('model = dict(backbone=dict(type="ResNet"), neck=dict(in_channels="backbone"))', tmp_path)


def test_keys_of_another_backbone_say_delete(tmp_path):
    (tmp_path / "resnet.py").write_text(
        'model = dict(type="RetinaNet", backbone=dict(type="ResNet", depth=50, num_stages=4, style="pytorch"))'
    )
    text = '_base_ = "resnet.py"\nmodel = dict(backbone=dict({}type="VAN", arch="van_b0"))'
    with pytest.raises(
        UserError, match=r"VAN takes no depth=50, num_stages=4, style='pytorch'.*_delete_=True, type=\"VAN\""
    ):
        model_of(text.format(""), tmp_path)
    assert model_of(text.format("_delete_=True, "), tmp_path).model.backbone == dict(type="VAN", arch="van_b0")


def test_delete_without_a_backbone_to_replace_is_left_out(tmp_path):
    text = 'model = dict(backbone=dict(_delete_=True, type="VAN", arch="van_b0"))'
    with pytest.raises(UserError, match=r"_delete_, and no base has a backbone.*; leave _delete_ out") as caught:
        model_of(text, tmp_path)
    assert "replace it whole" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [["model.backbone.arch=pvig_tiny", "model.backbone.norm_eps=1e-6"], {"model": {"backbone": {"depth": 50}}}],
)
def test_keys_of_an_option_are_not_blamed_on_a_base(options):
    with pytest.raises(UserError, match=r"takes no (norm_eps=1e-06|depth=50)\. Allowed: ") as caught:
        load_config(MASK_RCNN, options)
    assert "_delete_" not in str(caught.value)


@pytest.mark.parametrize("arch", [None, "van_b9"])
def test_a_backbone_without_a_known_arch_is_named(arch, tmp_path):
    with pytest.raises(UserError, match="arch"):
        model_of(f'model = dict(backbone=dict(type="Backbone", arch={arch!r}))', tmp_path)


def test_an_own_checkpoint_gives_its_runs_statistics(tmp_path):
    net = VAN("van_b0")
    meta = own_meta(net, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    save_safely({"meta": {"ziggurat": meta}, "state_dict": net.state_dict()}, tmp_path / "own.pth")
    options = {"model.backbone.arch": "van_b0", "model.backbone.pretrained": str(tmp_path / "own.pth")}
    cfg = load_config(MASK_RCNN, options)
    assert cfg.model.data_preprocessor.mean == pytest.approx([25.5, 51.0, 76.5])
    assert cfg.model.data_preprocessor.std == pytest.approx([102.0, 127.5, 153.0])


def test_num_classes_reaches_every_head():
    model = Config(
        dict(m=dict(heads=[dict(num_classes=80), dict(num_classes=80)], mask=dict(num_classes=80), rpn=dict(a=1)))
    )
    set_num_classes(model.m, 7)
    assert [head.num_classes for head in model.m.heads] == [7, 7] and model.m.mask.num_classes == 7
    assert "num_classes" not in model.m.rpn


def test_heads_that_tell_no_classes_apart_stay():
    model = dict(
        rpn_head=dict(type="ATSSHead", num_classes=1),
        roi_head=dict(bbox_head=dict(num_classes=80), objectness=dict(num_classes=1)),
    )
    set_num_classes(model, 7)
    assert model["rpn_head"]["num_classes"] == model["roi_head"]["objectness"]["num_classes"] == 1
    assert model["roi_head"]["bbox_head"]["num_classes"] == 7
    single = dict(bbox_head=dict(num_classes=1))  # a detector of one class is not class-agnostic
    set_num_classes(single, 7)
    assert single["bbox_head"]["num_classes"] == 7


@pytest.mark.parametrize("times", [1, 2])
def test_mask2former_follows_the_classes(times):
    weight = [1.0] * 133 + [0.1]
    model = dict(
        panoptic_head=dict(num_things_classes=80, num_stuff_classes=53, loss_cls=dict(class_weight=weight)),
        panoptic_fusion_head=dict(num_things_classes=80, num_stuff_classes=53),
        decode_head=dict(num_classes=150, loss_cls=dict(class_weight=[1.0] * 150 + [0.1])),
        auxiliary_head=[dict(num_classes=150, loss_decode=[dict(class_weight=[2.0] * 150), dict(type="Dice")])],
    )
    for _ in range(times):
        set_num_classes(model, 3)
    head, fusion = model["panoptic_head"], model["panoptic_fusion_head"]
    assert (head["num_things_classes"], head["num_stuff_classes"]) == (3, 0)
    assert (fusion["num_things_classes"], fusion["num_stuff_classes"]) == (3, 0)
    assert head["loss_cls"]["class_weight"] == model["decode_head"]["loss_cls"]["class_weight"] == [1.0] * 3 + [0.1]
    assert model["auxiliary_head"][0]["loss_decode"][0]["class_weight"] == [2.0] * 3


def test_class_weights_of_ones_own_stay_or_are_named():
    own = dict(decode_head=dict(num_classes=150, loss_decode=dict(class_weight=[0.2, 1.0, 3.0])))
    set_num_classes(own, 3)
    assert own["decode_head"]["loss_decode"]["class_weight"] == [0.2, 1.0, 3.0]
    with pytest.raises(UserError, match="class_weight has 3 values and the data 4 classes"):
        set_num_classes(own, 4)


@pytest.mark.parametrize("leaf", FAMILY_OF_WORDS, ids=lambda path: path.stem)
def test_classes_are_set_the_same_way_in_every_task(leaf):
    cfg = load_config(leaf, ["classes=['traffic light',0,dog]", "data_root=nowhere"])
    dataset = cfg.train_dataloader.dataset
    assert tuple(dataset.get("classes") or dataset.metainfo.classes) == ("traffic light", "0", "dog")
    heads = [cfg.model, *(part for part in cfg.model.values() if isinstance(part, dict))]
    heads += list(cfg.model.get("roi_head", {}).values())
    counts = {part["num_classes"] for part in heads if isinstance(part, dict) and "num_classes" in part}
    assert counts == {3}


def test_some_of_the_class_folders_are_taken_in_the_order_given(tmp_path):
    for split in ("train", "val"):
        for name in ("ape", "cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / name / "0.png")
    cfg = load_config(CLASSIFIER, [f"data_root={tmp_path}", "classes=[dog,ape]"])
    assert cfg.model.num_classes == 2
    task_for(cfg).check_data(cfg, ("train", "val"))
    data = task_for(cfg).build_dataset(cfg, "val")
    assert data.classes == ["dog", "ape"] and [label for _, label in data.samples] == [0, 1]
    everything = load_config(CLASSIFIER, [f"data_root={tmp_path}"])
    (tmp_path / "val/eel").mkdir()
    (tmp_path / "val/eel/0.png").write_bytes((tmp_path / "val/cat/0.png").read_bytes())
    with pytest.raises(UserError, match="classes that training does not know: eel"):  # nobody left it out
        task_for(everything).check_data(everything, ("val",))


@pytest.mark.parametrize("leaf", FAMILY_OF_WORDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("classes", ["[]", "[a,b,a]", "true", "{'a': 1}"])
def test_classes_that_are_no_names_are_named(leaf, classes):
    with pytest.raises(UserError, match="classes="):
        load_config(leaf, [f"classes={classes}"])


CHILD = """_base_ = {base!r}
train_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]
"""


def test_names_that_change_nothing_say_what_does(tmp_path):
    path = tmp_path / "child.py"
    path.write_text(CHILD.format(base=str(MASK_RCNN)))
    with pytest.raises(UserError, match=r"train_pipeline = ... changes nothing.*set train_dataloader.dataset.pipeline"):
        load_config(path)
    path.write_text(
        CHILD.format(base=str(MASK_RCNN)) + "train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n"
    )
    assert len(load_config(path).train_dataloader.dataset.pipeline) == 2

    base = tmp_path / "mm_style.py"
    base.write_text(
        "custom_imports = dict(imports=['detection'])\nsize = (64, 64)\n"
        "train_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', scale=size)]))\n"
    )
    path.write_text("_base_ = 'mm_style.py'\nsize = (32, 32)\n")
    where = r"size = ... changes nothing.*set train_dataloader.dataset.pipeline.0.scale"
    with pytest.raises(UserError, match=where):
        load_config(path)
    path.write_text("_base_ = 'mm_style.py'\nnote = 'my own'\n")  # a name that no base has misleads nobody
    assert load_config(path).note == "my own"
