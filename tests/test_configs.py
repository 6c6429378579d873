"""Every leaf config of detection and segmentation fits its name.

A leaf loads and builds. A run reads every key that the leaf sets. Neck and head have the channels of the backbone. The
leaf follows the published recipe, and has the published size.
"""

import ast
import importlib
import json
import re
from pathlib import Path

import configs_table
import pytest
import torch
from mmengine.registry import init_default_scope

from backbones import list_archs
from engine.config import READ_KEYS, load_config
from engine.tasks import TASKS, task_of

ROOT = Path(__file__).parent.parent
LEAVES = sorted(p.relative_to(ROOT) for t in ("detection", "segmentation") for p in ROOT.glob(f"{t}/configs/*/*.py"))
LEAVES = [path for path in LEAVES if path.parent.name != "_base_"]
PUBLISHED_LEAVES = [path for path in LEAVES if path.parent.name != "demo"]
VAN_LEAVES = [path for path in PUBLISHED_LEAVES if path.parent.name == "van"]
OTHER_LEAVES = [path for path in PUBLISHED_LEAVES if path.parent.name != "van"]
PUBLISHED = ROOT.parent / "shared/published/dense_results.json"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_file(), reason="the published figures are not beside this checkout"
)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def build(cfg):
    library = {"detection": "mmdet", "segmentation": "mmseg"}[task_of(cfg)]
    init_default_scope(library)
    with torch.device("meta"):
        return importlib.import_module(f"{library}.registry").MODELS.build(cfg.model)


def names_used(path):
    """Variables that a config or one of its task's bases reads itself."""
    files = [ROOT / path, *(ROOT / path).parent.parent.glob("**/_base_/**/*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def name_parts(path):
    """``("mask_rcnn", "van_b2", ["fpn", "1x", "coco"])`` of ``mask_rcnn_van_b2_fpn_1x_coco.py``."""
    arch = max((arch for arch in list_archs() if f"_{arch}_" in path.stem), key=len)
    head, rest = path.stem.split(f"_{arch}_")
    return head, arch, rest.split("_")


def test_the_leaves_are_all_there():
    names = {path.stem for path in PUBLISHED_LEAVES}
    for size in ("b0", "b1", "b2", "b3"):
        assert f"mask_rcnn_van_{size}_fpn_1x_coco" in names
        assert f"retinanet_van_{size}_fpn_1x_coco" in names
        assert f"upernet_van_{size}_512x512_160k_ade20k" in names
        assert f"semantic_fpn_van_{size}_512x512_40k_ade20k" in names
    for head in ("mask_rcnn", "cascade_mask_rcnn", "atss", "gfl"):
        assert f"{head}_van_b2_fpn_3x_coco" in names
    for task in ("detection", "segmentation"):  # a start for every family
        families = {path.parent.name for path in PUBLISHED_LEAVES if path.parts[0] == task}
        assert families == {"van", "hornet", "pvig", "vig", "vvt"}


def test_no_base_names_a_network_or_its_recipe():
    bases = [path for task in TASKS for path in ROOT.glob(f"{task}/configs/_base_/**/*.py")]
    assert {path.parent.name for path in bases} == {"_base_", "models", "data", "schedules", "recipes"}
    for path in bases:
        if path.parent.name != "recipes":  # classification's, which are the families' own
            assert not re.search(r"\b(van|hornet|p?vig|vvt)(_|\b)", path.read_text(), re.IGNORECASE), path


def test_the_page_of_configs_is_current():
    assert (ROOT / "docs/configs.md").read_text() == configs_table.page()


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_builds_with_the_channels_of_its_backbone(path):
    cfg = load_config(path)
    model = build(cfg)
    channels = [info.channels for info in model.backbone.feature_info]
    if cfg.model.get("neck"):
        wanted = channels[-1] if cfg.model.neck.type == "SimpleFeaturePyramid" else channels
        assert cfg.model.neck.in_channels == wanted
    else:
        assert list(cfg.model.decode_head.in_channels) == channels
        assert cfg.model.auxiliary_head.in_channels == channels[cfg.model.auxiliary_head.in_index]


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_sets_no_key_that_nothing_reads(path):
    assert set(load_config(path)) <= READ_KEYS | names_used(path)


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_is_short(path):
    own_recipe = path.parent.name == "demo" or "raoyongming/HorNet@" in path.read_text()
    assert len(path.read_text().splitlines()) <= (20 if own_recipe else 14)


@pytest.mark.parametrize("path", PUBLISHED_LEAVES, ids=lambda path: path.stem)
def test_name_matches_content(path):
    cfg = load_config(path)
    head, arch, rest = name_parts(path)
    kinds = {
        "mask_rcnn": "MaskRCNN",
        "cascade_mask_rcnn": "CascadeRCNN",
        "retinanet": "RetinaNet",
        "atss": "ATSS",
        "gfl": "GFL",
        "upernet": "UPerHead",
        "semantic_fpn": "FPNHead",
    }
    assert kinds[head] in (cfg.model.type, cfg.model.get("decode_head", {}).get("type"))
    assert cfg.model.backbone.arch == arch and cfg.model.backbone.pretrained == f"{arch}.in1k"
    assert path.parent.name == arch.split("_")[0]
    for word, epochs, steps in (("1x", 12, [8, 11]), ("3x", 36, [27, 33])):
        if word in rest:
            assert cfg.train_cfg.max_epochs == epochs == cfg.param_scheduler[-1].end
            assert cfg.param_scheduler[-1].milestones == steps
    for word, iters in (("40k", 40000), ("160k", 160000)):
        if word in rest:
            assert cfg.train_cfg.max_iters == iters == cfg.param_scheduler[-1].end
    crops = [step.crop_size for step in cfg.train_dataloader.dataset.pipeline if step.get("crop_size")]
    if "512x512" in rest:
        assert crops == [(512, 512)] and cfg.model.data_preprocessor.size == (512, 512)
    assert ("coco" in rest) == (cfg.train_dataloader.dataset.type == "CocoDataset")
    assert ("ade20k" in rest) == (cfg.train_dataloader.dataset.type == "MaskFolderDataset")
    multi_scale = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == "RandomChoice"]
    assert bool(multi_scale) == ("3x" in rest)


@pytest.mark.parametrize("path", VAN_LEAVES, ids=lambda path: path.stem)
def test_follows_the_published_recipe(path):
    """Values of published/recipes.json: van_coco_paper, van_upernet_160k, van_semfpn_40k."""
    cfg = load_config(path)
    head, arch, _ = name_parts(path)
    optimizer, per_gpu, drop_path = cfg.optim_wrapper.optimizer, cfg.train_dataloader.batch_size, None
    if head == "upernet":
        wanted = ("AdamW", 6e-5, 0.01, 2)
        drop_path = {"van_b3": 0.3}.get(arch, 0.1)
    elif head == "semantic_fpn":
        wanted = ("AdamW", 2e-4, 1e-4, 4)
        drop_path = {"van_b3": 0.3}.get(arch, 0.2)
        assert len(cfg.param_scheduler) == 1 and cfg.param_scheduler[0].power == 0.9
    else:
        wanted = ("AdamW", 1e-4, 0.05, 2)
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay, per_gpu) == wanted
    assert cfg.auto_scale_lr.base_batch_size == 8 * per_gpu
    if drop_path is not None:
        assert cfg.model.backbone.drop_path_rate == drop_path
        assert cfg.model.test_cfg.mode == "whole"
        assert dict(type="ResizeToMultiple", size_divisor=32) in cfg.val_dataloader.dataset.pipeline


@pytest.mark.parametrize("path", OTHER_LEAVES, ids=lambda path: path.stem)
def test_says_where_its_recipe_is_from(path):
    """Who published it; else it differs from VAN's config of the same head in the backbone alone."""
    text = path.read_text()
    if "raoyongming/HorNet@ac9e210" in text:
        return
    assert "VAN's" in text or "Swin's setting" in text
    cfg, _, head = load_config(path).to_dict(), None, name_parts(path)[0]
    rest = "_".join(name_parts(path)[2]).replace("sfp", "fpn")
    rest = rest if rest.startswith("fpn") or "x512" in rest else f"fpn_{rest}"
    van = next(p for p in VAN_LEAVES if p.stem.startswith(f"{head}_van_") and p.stem.endswith(rest))
    theirs = load_config(van, {"model.backbone.arch": name_parts(path)[1]}).to_dict()
    theirs["model"]["backbone"]["drop_path_rate"] = cfg["model"]["backbone"]["drop_path_rate"]
    assert cfg == theirs


@pytest.mark.parametrize("arch", ["hornet_tiny_7x7", "hornet_tiny_gf"])
def test_follows_hornets_recipes(arch):
    """Values of published/recipes.json: hornet_cascade_3x, hornet_upernet_160k."""
    cfg = load_config(f"detection/configs/hornet/cascade_mask_rcnn_{arch}_fpn_3x_coco.py")
    assert cfg.optim_wrapper.optimizer == dict(type="AdamW", lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay=0.7, num_layers=12)
    assert cfg.model.backbone.drop_path_rate == 0.4 and cfg.model.backbone.out_norm
    assert cfg.param_scheduler[0].end == 500
    cfg = load_config(f"segmentation/configs/hornet/upernet_{arch}_512x512_160k_ade20k.py")
    assert cfg.optim_wrapper.optimizer == dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(layer_decay=0.9, num_layers=6, decay_type="stage_wise")
    assert cfg.optim_wrapper.get("clip_grad") == ({"max_norm": 1.0} if arch.endswith("gf") else None)
    assert cfg.model.backbone.drop_path_rate == 0.4 and cfg.model.test_cfg.stride == (341, 341)


@needs_published
@pytest.mark.parametrize("path", VAN_LEAVES, ids=lambda path: path.stem)
def test_has_the_published_number_of_parameters(path):
    """Trainable parameters, 80 / 150 classes. UPerNet's figure counts the auxiliary head, which only trains."""
    head, arch, rest = name_parts(path)
    method = {
        "mask_rcnn": "Mask R-CNN",
        "cascade_mask_rcnn": "Cascade Mask R-CNN",
        "retinanet": "RetinaNet",
        "atss": "ATSS",
        "gfl": "GFL",
        "upernet": "UPerNet",
        "semantic_fpn": "Semantic FPN",
    }[head]
    results = json.loads(PUBLISHED.read_text())
    rows = results["coco_detection"] + results["ade20k"]
    rows = [row for row in rows if row["variant"] == arch and row["method"] == method and row["params_m"]]
    if "coco" in rest:
        rows = [row for row in rows if row["schedule"].startswith(rest[1])]
    count = sum(param.numel() for param in build(load_config(path)).parameters()) / 1e6
    assert rows
    for row in rows:
        unit = 0.1 if isinstance(row["params_m"], float) else 1.0
        assert count == pytest.approx(row["params_m"], abs=0.55 * unit)
