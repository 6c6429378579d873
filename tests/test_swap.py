"""``model.backbone.arch=ANY`` is the whole change to another network, on a leaf of every head type.

The completed model builds. Its neck and heads take the maps. Statistics and weights are the network's own.
"""

import importlib
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from backbones import UserError, list_archs
from backbones.weights.table import FAMILY_INPUT, WEIGHTS
from engine.config import load_config

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


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def build(cfg):
    scope = cfg.default_scope
    init_default_scope(scope)
    registry = MODELS if scope == "mmengine" else importlib.import_module(f"{scope}.registry").MODELS
    with torch.device("meta"):
        return registry.build(cfg.model)


@pytest.mark.parametrize("arch", list_archs())
@pytest.mark.parametrize("head", LEAVES)
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
    if f"_{arch}_" in LEAVES[head] and "ade20k" in LEAVES[head]:
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
    first = 1 if head in ("retinanet", "atss", "gfl") else 0
    assert [-(-96 // m.shape[2]) for m in maps[: 4 - first]] == [4, 8, 16, 32][first:]
    for part in ("rpn_head", "bbox_head", "decode_head", "auxiliary_head"):
        if hasattr(model, part):
            getattr(model, part)(maps)


@pytest.mark.parametrize("head", LEAVES)
def test_weights_of_another_arch_are_refused(head):
    with pytest.raises(UserError, match=r"pretrained='van_b0.in1k' belongs to van_b0, and the arch is pvig_tiny"):
        load_config(LEAVES[head], {"model.backbone.arch": "pvig_tiny", "model.backbone.pretrained": "van_b0.in1k"})


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
    assert cfg.model.data_preprocessor.mean == [9.0] * 3 and capsys.readouterr().err == ""
