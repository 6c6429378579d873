"""A checkpoint that somebody else made: whatever its config says, no code runs, and no other file is read.

Each attack starts from the config of a real run, and changes one place. The attack's own code would leave a file.
"""

import copy
import importlib.util
import json
import os
import pickle
import sys

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS

from backbones import UserError
from backbones.weights import own_meta
from ziggurat import engine
from ziggurat.engine.config import load_config
from ziggurat.engine.own_config import config_from
from ziggurat.engine.registered import SCOPES, names_in, names_only, only_registered

CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
DENSE = ["detection", "segmentation"]


class Bomb:
    """Its unpickling makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture(scope="module")
def contents(tmp_path_factory, request):
    """Of each task: the content of a checkpoint of our own."""
    os.chdir(request.config.rootpath)
    made = {}
    for task, path in CONFIGS.items():
        cfg = load_config(path, {"data_root": str(tmp_path_factory.mktemp(task))})
        network = torch.nn.Module()
        classes = [str(i) for i in range(11 if task == "segmentation" else 10)]
        own = own_meta(network, None, None, task=task, classes=classes, config=cfg.to_dict())
        made[task] = {"state_dict": {"backbone.x": torch.zeros(1)}, "meta": {"ziggurat": own}}
    return made


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder to work in, with code that must not run: a module ``evilmod`` and a pickle. Both make ``ran``."""
    package = tmp_path / "evilmod"
    package.mkdir()
    for name in ("__init__", "registry"):
        (package / f"{name}.py").write_text(f"import os\nos.makedirs({str(tmp_path / 'ran')!r}, exist_ok=True)\n")
    for name in ("evil.pkl", "pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    code = f"import os\nos.makedirs({str(tmp_path / 'ran')!r}, exist_ok=True)\nmodel = None\n"
    (tmp_path / "teacher.py").write_text(code)
    torch.save(Bomb(tmp_path / "ran"), tmp_path / "teacher.pth")
    for name in ("evilmod", "evilmod.registry"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def predictor_of(content, folder):
    torch.save(content, folder / "given.pth")
    return engine.Predictor(folder / "given.pth")


def config_of(content):
    return content["meta"]["ziggurat"]["config"]


def first_step(config):
    return config["test_dataloader"]["dataset"]["pipeline"][0]


def taught(model, config, checkpoint):
    """A detector that learns from a teacher. Its constructor runs the teacher's config."""
    shared = {name: model[name] for name in ("backbone", "neck", "data_preprocessor")}
    head = dict(type="LADHead", num_classes=10, in_channels=64)
    kind = "KnowledgeDistillationSingleStageDetector"
    return dict(type=kind, bbox_head=head, teacher_config=config, teacher_ckpt=checkpoint, **shared)


LOAD = dict(type="mmengine.load", file="evil.pkl")
EVIL = dict(type="evilmod")
SHELL = "__import__('os').mkdir('ran')"
ATTACKS = {
    "load as the model": lambda c: c.update(model=LOAD),
    "load as the backbone": lambda c: c["model"].update(backbone=LOAD),
    "load as the neck": lambda c: c["model"].update(neck=LOAD),
    "load as the preprocessor": lambda c: c["model"].update(data_preprocessor=LOAD),
    "load inside the backbone": lambda c: c["model"].update(backbone=dict(type="Backbone", arch=LOAD)),
    "load as a step": lambda c: first_step(c).update(LOAD),
    "load as collate_fn": lambda c: c["test_dataloader"].update(collate_fn=LOAD),
    "a module as the backbone": lambda c: c["model"].update(backbone=EVIL),
    "a module as a step": lambda c: c["test_dataloader"]["dataset"]["pipeline"].insert(0, EVIL),
    "a module as collate_fn": lambda c: c["test_dataloader"].update(collate_fn=EVIL),
    "a module as a data set": lambda c: c["test_dataloader"]["dataset"].update(type="evilmod"),
    "a module of a known scope": lambda c: c["model"].update(backbone=dict(type="mmdet.evilmod")),
    "a scope in the name": lambda c: c["model"].update(backbone=dict(type="evilmod.FPN")),
    "default_scope": lambda c: c.update(default_scope="evilmod"),
    "_scope_ of the model": lambda c: c["model"].update(_scope_="evilmod"),
    "_scope_ of the backbone": lambda c: c["model"]["backbone"].update(_scope_="evilmod"),
    "_scope_ of the preprocessor": lambda c: c["model"]["data_preprocessor"].update(_scope_="evilmod"),
    "_scope_ of a step": lambda c: first_step(c).update(_scope_="evilmod"),
    "resize_type of a step": lambda c: c["test_dataloader"]["dataset"]["pipeline"].insert(
        1, dict(type="RandomResize", scale=(64, 64), resize_type="mmengine.load", file="evil.pkl")
    ),
    "resize_type, a module": lambda c: c["test_dataloader"]["dataset"]["pipeline"].insert(
        1, dict(type="RandomResize", scale=(64, 64), resize_type="evilmod")
    ),
    "a search path": lambda c: first_step(c).update(backend_args=dict(backend="memcached", sys_path="evilmod")),
}
ONLY_DETECTION = {
    "a teacher's config": lambda c: c.update(model=taught(c["model"], "teacher.py", None)),
    "an expression": lambda c: c["model"]["rpn_head"].update(
        bbox_coder=dict(type="CameraMotionCompensation", warp_mode=SHELL)
    ),
    "an expression as type": lambda c: c["model"]["test_cfg"]["rcnn"]["nms"].update(type=SHELL),
}
ONLY_SEGMENTATION = {
    "a pickle of class weights": lambda c: c["model"]["decode_head"]["loss_decode"].update(class_weight="evil.pkl"),
    "a pickle without a suffix": lambda c: c["model"]["decode_head"]["loss_decode"].update(class_weight="pkl"),
}
CASES = [("classification", name) for name in ATTACKS if "step" not in name and "path" not in name]
CASES = [case for case in CASES if "neck" not in case[1] and "resize" not in case[1]]
CASES += [(task, name) for task in DENSE for name in ATTACKS]
CASES += [("detection", name) for name in ONLY_DETECTION] + [("segmentation", name) for name in ONLY_SEGMENTATION]


@pytest.mark.parametrize("task, attack", CASES)
def test_no_code_of_a_checkpoint_runs(task, attack, contents, trap):
    content = copy.deepcopy(contents[task])
    (ATTACKS | ONLY_DETECTION | ONLY_SEGMENTATION)[attack](config_of(content))
    try:
        predictor_of(content, trap)
    except Exception as error:
        refusal = error
    assert not (trap / "ran").exists()
    assert isinstance(refusal, UserError) and "\n" not in str(refusal)
    assert "given.pth" in str(refusal)


def test_building_from_a_checkpoint_finds_registered_names_only():
    assert MODELS.get("mmengine.mkdir_or_exist") is not None, "what mmengine does with a config file"
    with names_only():
        assert MODELS.get("mmengine.mkdir_or_exist") is None
        assert MODELS.get("antigravity") is None
        assert MODELS.get("mmdet.FPN").__name__ == "FPN"
    assert MODELS.get("mmengine.mkdir_or_exist") is not None
    assert "antigravity" not in sys.modules


def test_no_registered_name_is_a_module():
    """Otherwise a name of one registry, looked up in another, would import that module."""
    names = set().union(*(names_in(scope) for scope in SCOPES))
    assert len(names) > 400 and "FPN" in names
    assert not [name for name in names if importlib.util.find_spec(name)]


@pytest.mark.parametrize("task", CONFIGS)
def test_every_config_of_ours_may_travel_in_a_checkpoint(task):
    """Arguments that point at other files become None. Everything else stays."""
    importlib.import_module(task)
    paths = [path for path in (ROOT / task / "configs").glob("*/*.py") if path.parent.name != "_base_"]
    assert paths
    for path in paths:
        model = Config.fromfile(path).model.to_dict()
        copied = only_registered(model, "model")
        needless = {"pretrained", "init_cfg", "class_map"}
        assert without(copied, needless) == without(model, needless), path


def without(part, names):
    if isinstance(part, dict):
        return {key: without(value, names) for key, value in part.items() if key not in names}
    return [without(value, names) for value in part] if isinstance(part, list | tuple) else part


@pytest.mark.parametrize("task", CONFIGS)
def test_what_predicting_does_not_need_is_left_out(task, contents):
    config = copy.deepcopy(config_of(contents[task]))
    config["custom_hooks"] = [EVIL]
    config["load_from"] = "http://example.org/evil.pkl"
    config["filename"] = "a word that mmengine reserves"
    cfg = config_from(config, "given.pth")
    needed = {"custom_imports", "default_scope", "model", "data_preprocessor", "test_dataloader"}
    assert set(cfg) <= needed | {"tta_model", "tta_pipeline"}
    assert set(cfg.test_dataloader.dataset) <= {"type", "classes", "metainfo", "pipeline", "transform"}
    assert "evil" not in json.dumps(cfg.to_dict())


DAMAGES = {
    "classes": lambda own: own.update(classes=3),
    "class names": lambda own: own.update(classes=[None] * 10),
    "config": lambda own: own.update(config=[1]),
    "no model": lambda own: own["config"].pop("model"),
    "model": lambda own: own["config"].update(model=[]),
    "model.type": lambda own: own["config"]["model"].update(type=None),
    "another type": lambda own: own["config"]["model"].update(type=["FPN"]),
    "imports as text": lambda own: own["config"].update(custom_imports="abc"),
    "imports as list": lambda own: own["config"].update(custom_imports=[1]),
    "no imports": lambda own: own["config"].pop("custom_imports"),
    "imports of numbers": lambda own: own["config"].update(custom_imports=dict(imports=[3])),
    "default_scope": lambda own: own["config"].update(default_scope=7),
    "default_scope as list": lambda own: own["config"].update(default_scope=["mmdet"]),
    "loader": lambda own: own["config"].update(test_dataloader="x"),
    "no loader": lambda own: own["config"].update(test_dataloader=None),
    "no dataset": lambda own: own["config"]["test_dataloader"].pop("dataset"),
    "collate_fn": lambda own: own["config"]["test_dataloader"].update(collate_fn=dict(type="abc")),
    "collate_fn as text": lambda own: own["config"]["test_dataloader"].update(collate_fn="abc"),
    "metainfo": lambda own: own["config"]["test_dataloader"]["dataset"].update(metainfo="x"),
    "a name that is no text": lambda own: own["config"]["model"].update({3: 4}),
    "a set": lambda own: own["config"]["model"].update(x={3}),
    "an argument": lambda own: own["config"]["model"].update(foo=1),
    "endless": lambda own: own["config"]["model"].update(foo=own["config"]["model"]),
}
PIPELINES = {f"pipeline {value!r}": value for value in ("x", None, [], [{}], [3], [dict(type=None)])}


def assert_one_line(content, folder):
    with pytest.raises(UserError) as caught:
        predictor_of(content, folder)
    message = str(caught.value)
    assert "given.pth" in message and "config None" not in message and len(message.splitlines()) == 1
    assert len(message) < 600


@pytest.mark.parametrize("task", CONFIGS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_on_one_line(task, damage, contents, tmp_path):
    content = copy.deepcopy(contents[task])
    DAMAGES[damage](content["meta"]["ziggurat"])
    assert_one_line(content, tmp_path)


@pytest.mark.parametrize("task", DENSE)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_damaged_pipeline_is_said_on_one_line(task, pipeline, contents, tmp_path):
    content = copy.deepcopy(contents[task])
    config_of(content)["test_dataloader"]["dataset"]["pipeline"] = PIPELINES[pipeline]
    assert_one_line(content, tmp_path)


@pytest.mark.parametrize("transform", [{"foo": 1}, None, "x", [1], {"input_size": "x"}])
def test_a_damaged_transform_is_said_on_one_line(transform, contents, tmp_path):
    content = copy.deepcopy(contents["classification"])
    config_of(content)["test_dataloader"]["dataset"]["transform"] = transform
    assert_one_line(content, tmp_path)


def test_damaged_classes_of_another_trainer_are_said(contents, tmp_path):
    content = copy.deepcopy(contents["detection"])
    content["meta"]["dataset_meta"] = "x"
    assert_one_line(content, tmp_path)


def test_a_constructors_error_names_the_checkpoint(contents, tmp_path):
    content = copy.deepcopy(contents["detection"])
    config_of(content)["model"]["neck"]["out_chanels"] = 3
    with pytest.raises(UserError, match=r"given\.pth: unknown argument of FPN 'out_chanels'"):
        predictor_of(content, tmp_path)
