"""Every leaf config of detection and segmentation fits its name.

A leaf loads and builds. A run reads every key that the leaf sets. Neck and head have the channels of the backbone. A
leaf without a published recipe says whose recipe it takes. test_dense_recipes.py compares leaves with their recipes.
"""

import re
from functools import cache

import configs_table
import pytest
from dense_leaves import LEAVES, METHODS, ROOT, WHOLE_LEAVES, config, model, name_parts

from ziggurat.engine.config import READ_KEYS, load_config
from ziggurat.engine.inherited import names_read
from ziggurat.engine.tasks import TASKS

OTHER_LEAVES = [path for path in WHOLE_LEAVES if path.parent.name != "van"]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def names_used(path):
    """Variables that a config or one of its task's bases reads itself, ``_base_.name`` included."""
    files = [ROOT / path, *(ROOT / path).parent.parent.glob("**/_base_/**/*.py")]
    return set().union(*(names_in(file) for file in files))


@cache
def names_in(file):
    return names_read(file)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_every_family_has_a_start(task):
    families = {path.parent.name for path in WHOLE_LEAVES if path.parts[0] == task}
    assert families == {"van", "hornet", "pvig", "vig", "vvt"}


def test_no_base_names_a_network_or_its_recipe():
    bases = [path for task in TASKS for path in ROOT.glob(f"{task}/configs/_base_/**/*.py")]
    assert {path.parent.name for path in bases} == {"_base_", "models", "data", "schedules", "recipes"}
    for path in bases:
        if path.parent.name != "recipes":  # these are the families' own
            assert not re.search(r"\b(van|hornet|p?vig|vvt)(_|\b)", path.read_text(), re.IGNORECASE), path


def test_the_page_of_configs_is_current():
    page = configs_table.page(lambda path: config(path.relative_to(ROOT)))
    assert (ROOT / "docs/configs.md").read_text() == page


def check_channels(path):
    cfg = config(path).model
    channels = [info.channels for info in model(path).backbone.feature_info]
    if cfg.get("neck"):
        neck = cfg.neck[0] if isinstance(cfg.neck, list) else cfg.neck
        wanted = channels[-1] if neck.type == "SimpleFeaturePyramid" else channels
        assert neck.in_channels == wanted
        return
    for head in filter(None, (cfg.get(key) for key in ("decode_head", "auxiliary_head", "panoptic_head"))):
        index = head.get("in_index", list(range(len(channels))))
        wanted = channels[index] if isinstance(index, int) else [channels[i] for i in index]
        assert head.in_channels == wanted


def check_keys(path):
    """A run reads every key that the leaf sets."""
    assert set(config(path)) <= READ_KEYS | names_used(path)


def check_length(path):
    assert len(path.read_text().splitlines()) <= (20 if path.parent.name == "demo" else 14)


def check_name(path):
    cfg = config(path)
    head, arch, rest = name_parts(path)
    kind = (cfg.model.get("decode_head") or cfg.model).type
    assert kind.startswith(METHODS[head][1])
    weights = "in22k" if "in22k" in rest else "in1k"
    assert cfg.model.backbone.arch == arch and cfg.model.backbone.pretrained == f"{arch}.{weights}"
    assert path.parent.name == arch.split("_")[0]
    for word, epochs, steps in (("1x", 12, [8, 11]), ("3x", 36, [27, 33]), ("12e", 12, [11])):
        if word in rest:
            assert cfg.train_cfg.max_epochs == epochs == cfg.param_scheduler[-1].end
            assert cfg.param_scheduler[-1].milestones == steps
    for word, iters in (("40k", 40000), ("160k", 160000)):
        if word in rest:
            assert cfg.train_cfg.max_iters == iters == cfg.param_scheduler[-1].end
    pipeline = cfg.train_dataloader.dataset.pipeline
    if "ade20k" in rest:
        side = 640 if "640x640" in rest else 512
        crops = [step.crop_size for step in pipeline if step.get("crop_size")]
        assert f"{side}x{side}" in rest
        assert crops == [(side, side)] and cfg.model.data_preprocessor.size == (side, side)
    kinds = {"coco": "CocoDataset", "ade20k": "MaskFolderDataset", "panoptic": "CocoPanopticDataset"}
    assert cfg.train_dataloader.dataset.type == kinds[rest[-1]]
    jitter = [step for step in pipeline if step.get("ratio_range") == (0.1, 2.0) and step.get("scale") == (1024, 1024)]
    assert bool(jitter) == ("lsj" in rest)
    multi_scale = [step for step in pipeline if step.type == "RandomChoice"]
    if multi_scale:
        assert head == "dino" or "3x" in rest or path.parent.name == "hornet"
    else:
        assert "3x" not in rest


def check_origin(path):
    """Who published it; else it differs from VAN's config of the same head in the backbone alone."""
    text = path.read_text()
    if "raoyongming/HorNet@ac9e210" in text:
        return
    assert "VAN's" in text or "'s setting" in text or "mmdetection's" in text or "mmsegmentation's" in text
    cfg, head = config(path).to_dict(), name_parts(path)[0]
    rest = "_".join(name_parts(path)[2]).replace("sfp", "fpn")
    van = next(p for p in WHOLE_LEAVES if p.stem.startswith(f"{head}_van_") and p.stem.endswith(rest))
    theirs = load_config(van, {"model.backbone.arch": name_parts(path)[1]}).to_dict()
    theirs["model"]["backbone"]["drop_path_rate"] = cfg["model"]["backbone"]["drop_path_rate"]
    assert cfg == theirs


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_a_leaf_fits_its_network_and_its_name(path):
    """All checks of a leaf in one test, so that one process loads it."""
    check_keys(path)
    check_length(path)
    check_channels(path)
    if path in WHOLE_LEAVES:
        check_name(path)
    if path in OTHER_LEAVES:
        check_origin(path)
