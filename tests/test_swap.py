"""``model.backbone.arch=ANY`` is the whole change to another network, on a leaf of every head type.

The completed model builds. Its neck and heads take the maps. Statistics and weights are the network's own.
"""

import importlib
from pathlib import Path

import pytest
import torch
from helpers import SMALL
from mmengine.registry import MODELS, init_default_scope

from backbones import UserError, list_archs
from backbones.weights.table import FAMILY_INPUT, WEIGHTS
from ziggurat.engine import project_configs
from ziggurat.engine.complete import complete
from ziggurat.engine.config import load_config

LEAVES = {
    "classification": "classification/configs/van/van_b1_8xb128_in1k.py",
    "mask_rcnn": "detection/configs/van/mask_rcnn_van_b2_fpn_1x_coco.py",
    "cascade_mask_rcnn": "detection/configs/van/cascade_mask_rcnn_van_b2_fpn_3x_coco.py",
    "retinanet": "detection/configs/van/retinanet_van_b2_fpn_1x_coco.py",
    "atss": "detection/configs/van/atss_van_b2_fpn_3x_coco.py",
    "gfl": "detection/configs/van/gfl_van_b2_fpn_3x_coco.py",
    "upernet": "segmentation/configs/van/upernet_van_b2_512x512_160k_ade20k.py",
    "semantic_fpn": "segmentation/configs/van/semantic_fpn_van_b2_512x512_40k_ade20k.py",
}
RARE = {
    "light_ham": "segmentation/configs/van/light_ham_van_b2_512x512_160k_ade20k.py",
    "hamnet": "segmentation/configs/van/hamnet_van_b2_512x512_160k_ade20k.py",
    "gn_upernet": "segmentation/configs/hornet/gn_upernet_gf_hornet_small_7x7_512x512_160k_ade20k.py",
    "horfpn": "detection/configs/hornet/mask_rcnn_hornet_small_7x7_horfpn_gf_1x_coco.py",
    "rtmdet": "detection/configs/van/rtmdet_van_b2_300e_coco.py",
    "dino": "detection/configs/van/dino_van_b2_12e_coco.py",
    "panoptic": "detection/configs/van/mask2former_van_b2_lsj_50e_coco_panoptic.py",
    "mask2former": "segmentation/configs/van/mask2former_van_b2_512x512_160k_ade20k.py",
    "segformer": "segmentation/configs/van/segformer_van_b2_512x512_160k_ade20k.py",
    "deeplabv3plus": "segmentation/configs/van/deeplabv3plus_van_b2_512x512_160k_ade20k.py",
}
FROM_8 = ("retinanet", "atss", "gfl", "rtmdet", "dino")  # heads of maps from stride 8 on
PAIRS = [(head, arch) for head in LEAVES for arch in list_archs()] + [(head, arch) for head in RARE for arch in SMALL]
LEAVES |= RARE


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def build(cfg):
    scope = cfg.default_scope
    init_default_scope(scope)
    registry = MODELS if scope == "mmengine" else importlib.import_module(f"{scope}.registry").MODELS
    with torch.device("meta"):
        return registry.build(cfg.model)


@pytest.mark.parametrize(("head", "arch"), PAIRS)
def test_the_arch_is_the_whole_change(head, arch, cut_depths):
    cut_depths(arch, (1, 1, 1, 1))
    cfg = load_config(LEAVES[head], {"model.backbone.arch": arch})
    model = build(cfg)
    assert model.backbone.arch == arch
    dense = head != "classification"
    if dense:
        assert cfg.model.backbone.pretrained.startswith(f"{arch}.")
        mean_and_std = WEIGHTS[cfg.model.backbone.pretrained].input
    else:
        assert cfg.model.backbone.get("pretrained") is None
        mean_and_std = FAMILY_INPUT[arch.split("_")[0]]
    if f"_{arch}_" in LEAVES[head] and "_base_/recipes/van" in Path(LEAVES[head]).read_text():
        mean_and_std = FAMILY_INPUT["hornet"]  # ImageNet's, typed in these leaves for their own arch
    for name, values in zip(("mean", "std"), mean_and_std, strict=True):
        unit = 255 if dense else 1
        assert cfg.model.data_preprocessor[name] == pytest.approx([unit * value for value in values])
    if arch.startswith("hornet"):
        assert bool(model.backbone.out_norms) == dense

    image = torch.empty(2, 3, 96, 64, device="meta")
    if not dense:
        assert model(image).shape == (2, 1000)
        return
    maps = model.extract_feat(image)
    first = 1 if head in FROM_8 else 0
    typed = {} if arch.startswith("vig") else {"hamnet": [4, 8, 8, 8], "deeplabv3plus": [4, 8, 16, 16]}
    strides = typed.get(head, [4, 8, 16, 32])
    assert [-(-96 // m.shape[2]) for m in maps[: 4 - first]] == strides[first:]
    for part in ("rpn_head", "bbox_head", "decode_head", "auxiliary_head"):
        if hasattr(model, part) and head not in ("dino", "mask2former"):  # these heads take more than maps
            getattr(model, part)(maps)


@pytest.mark.parametrize("head", LEAVES)
def test_weights_of_another_arch_are_refused(head):
    with pytest.raises(UserError, match=r"pretrained='van_b0.in1k' belongs to van_b0, and the arch is pvig_tiny"):
        load_config(LEAVES[head], {"model.backbone.arch": "pvig_tiny", "model.backbone.pretrained": "van_b0.in1k"})


LARGE = "segmentation/configs/hornet/upernet_hornet_large_gf_in22k_640x640_160k_ade20k.py"
B4 = "segmentation/configs/van/upernet_van_b4_in22k_512x512_160k_ade20k.py"


@pytest.mark.parametrize(
    ("leaf", "arch", "left"),
    [
        (LARGE, "van_b0", "filter_sizes"),
        (LARGE, "hornet_tiny_7x7", "filter_sizes"),
        (LEAVES["hamnet"], "vig_tiny", "output_stride"),
    ],
)
def test_arguments_typed_for_a_leafs_own_arch_are_left_out(leaf, arch, left, capsys):
    assert left in load_config(leaf).model.backbone
    capsys.readouterr()
    swapped = load_config(leaf, {"model.backbone.arch": arch}).model.backbone
    assert left not in swapped and swapped.pretrained.startswith(f"{arch}.")
    assert f"note: {left} of the config are left out; they belong to " in capsys.readouterr().err


def test_arguments_of_options_and_of_the_same_family_stay():
    sizes = [None, None, [20, 11], [10, 6]]
    options = {"model.backbone.arch": "hornet_tiny_gf", "model.backbone.filter_sizes": sizes}
    assert load_config(LARGE, options).model.backbone.filter_sizes == sizes
    swapped = load_config(LARGE, {"model.backbone.arch": "hornet_tiny_gf"}).model.backbone
    assert swapped.filter_sizes == (None, None, (24, 13), (12, 7))
    swapped = load_config(LEAVES["hamnet"], {"model.backbone.arch": "van_b0"})
    assert swapped.model.backbone.output_stride == 8
    assert load_config(B4, {"model.backbone.arch": "van_b5"}).model.backbone.pretrained == "van_b5.in22k"


def test_statistics_typed_in_a_leaf_are_its_own_networks(capsys):
    swapped = load_config(LEAVES["upernet"], {"model.backbone.arch": "pvig_tiny"})
    assert swapped.model.data_preprocessor.mean == [127.5] * 3
    assert capsys.readouterr().err.startswith("note: mean and std of the config give way to those of pvig_tiny")
    assert load_config(LEAVES["upernet"]).model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    options = {"model.backbone.arch": "pvig_tiny", "model.data_preprocessor.mean": [1.0, 2.0, 3.0]}
    assert load_config(LEAVES["upernet"], options).model.data_preprocessor.mean == [1.0, 2.0, 3.0]


def test_a_users_own_config_keeps_the_statistics_it_types(tmp_path, capsys):
    path = tmp_path / "xray.py"
    leaf = LEAVES["upernet"]
    path.write_text(
        f"_base_ = {str(Path(leaf).resolve())!r}\nmodel = dict(data_preprocessor=dict(mean=[9.0] * 3, std=[1.0] * 3))\n"
    )
    cfg = load_config(path, {"model.backbone.arch": "pvig_tiny"})
    assert cfg.model.data_preprocessor.mean == [9.0] * 3
    assert capsys.readouterr().err.startswith("note: mean and std of the config stay as typed")


PRINTED = """custom_imports = dict(imports=["classification"])
model = dict(type="Classifier", num_classes=10, backbone=dict(type="Backbone", arch="van_b0", pretrained=None),
    data_preprocessor=dict(type="BatchPreprocessor", mean={mean}, std=[0.5, 0.5, 0.5]))
"""
IMAGENET = [0.485, 0.456, 0.406]


@pytest.mark.parametrize(
    ("mean", "options", "said"),
    [
        ([0.5] * 3, ["model.backbone.arch=hornet_tiny_7x7"], "mean and std"),
        (IMAGENET, ["model.backbone.arch=hornet_tiny_7x7"], "std"),
        ([0.5] * 3, ["model.backbone.arch=van_b1"], None),  # the weights of both have these numbers
        ([0.4] * 3, ["model.backbone.arch=van_b0"], None),  # no other arch
        ([0.5] * 3, ["model.backbone.arch=van_b1", "model.data_preprocessor.mean=[1,2,3]"], None),
    ],
)
def test_kept_statistics_that_are_not_the_new_weights_are_noted(mean, options, said, tmp_path, capsys):
    path = tmp_path / "printed.py"
    path.write_text(PRINTED.format(mean=mean))
    cfg = load_config(path, [*options, "model.backbone.pretrained=True"])
    err = capsys.readouterr().err
    if said is None:
        assert err == ""
        return
    assert err.startswith(f"note: {said} of the config stay as typed") and err.count("\n") == 1
    assert list(cfg.model.data_preprocessor.mean) == mean
    cure = [word for word in err.split() if word.startswith("model.data_preprocessor")]
    followed = load_config(path, [*options, "model.backbone.pretrained=True", *cure])
    assert followed.model.data_preprocessor.mean == pytest.approx(IMAGENET) and capsys.readouterr().err == ""
    load_config(path, options)
    assert capsys.readouterr().err == ""  # no weights are loaded


def test_a_users_config_inside_the_clone_is_the_users(monkeypatch, tmp_path, capsys):
    """Only what lies in a task's folder ``configs`` is a leaf of ours."""
    (tmp_path / "work_dirs").mkdir()
    (tmp_path / "classification/configs/van").mkdir(parents=True)
    monkeypatch.setattr(project_configs, "ROOT", tmp_path)
    options = ["model.backbone.arch=hornet_tiny_7x7"]
    for name, kept in (("work_dirs/my.py", True), ("classification/configs/van/leaf.py", False)):
        (tmp_path / name).write_text(PRINTED.format(mean=[0.3] * 3))
        found = load_config(tmp_path / name, options).model.data_preprocessor.mean
        assert (list(found) == [0.3] * 3) == kept
        assert ("give way to those of hornet_tiny_7x7's" in capsys.readouterr().err) == (not kept)


def test_one_number_gives_way(tmp_path, capsys):
    options = ["model.backbone.arch=pvig_tiny", "model.data_preprocessor.std=[1,1,1]"]
    load_config(LEAVES["upernet"], options)
    assert capsys.readouterr().err == "note: mean of the config gives way to that of pvig_tiny's weights\n"


BLOCKS = ["model.backbone.arch=vig_tiny", "model.backbone.pretrained=None"]


@pytest.mark.parametrize("blocks", ["[3,5,7,11]", "[8]"])
@pytest.mark.parametrize("head", [head for head in LEAVES if head != "classification"])
def test_vigs_blocks_become_scales(head, blocks, capsys):
    """The pyramid takes the map of the last block, and is the same as without ``out_blocks``."""
    cfg = load_config(LEAVES[head], [*BLOCKS, f"model.backbone.out_blocks={blocks}"])
    last = int(blocks.strip("[]").split(",")[-1])
    assert list(cfg.model.backbone.out_blocks) == [last]
    assert capsys.readouterr().err.count("note: out_blocks") == ("," in blocks)
    plain = load_config(LEAVES[head], BLOCKS).model
    assert cfg.model.neck == plain.neck
    model = build(cfg)
    maps = model.extract_feat(torch.empty(2, 3, 96, 64, device="meta"))
    first = 1 if head in FROM_8 else 0
    assert [-(-96 // m.shape[2]) for m in maps[: 4 - first]] == [4, 8, 16, 32][first:]
    again = cfg.copy()
    complete(again)
    assert again.model == cfg.model


def test_a_classifier_reads_the_last_of_vigs_blocks():
    model = build(
        load_config(LEAVES["classification"], ["model.backbone.arch=vig_tiny", "model.backbone.out_blocks=[8]"])
    )
    assert model(torch.empty(2, 3, 96, 64, device="meta")).shape == (2, 1000)
