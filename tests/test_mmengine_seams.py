"""The parts of mmengine and mmdet that this project relies on beyond their documented use.

These are private names, overridden methods, and functions whose frames are read. A release that changes one fails here.
"""

import ast
import copy
import importlib
import inspect

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import build_from_cfg, build_scheduler_from_cfg
from mmengine.runner import Runner
from yapf.yapflib import yapf_api

from ziggurat.engine import mistakes
from ziggurat.engine.checkpoint_hook import LateRemoval, SafeCheckpointHook
from ziggurat.engine.formatted_once import format_configs_once
from ziggurat.engine.hooks import BuffersHook
from ziggurat.engine.progress import ProgressHook
from ziggurat.engine.runner import SafeRunner

FOLDERS = ("ziggurat/engine", "classification", "detection", "segmentation")
# Every private name of the mm packages that is used, where it comes from, and the arguments it takes there. Those of
# Config find the bases of a config's file, for which mmengine has no public way.
PRIVATE = {
    "_ParamScheduler": (
        "mmengine.optim",
        ["optimizer", "param_name", "begin", "end", "last_step", "by_epoch", "verbose"],
    ),
    "_compute_batch_pq_stats": ("mmdet.evaluation.CocoPanopticMetric", ["self", "data_samples"]),
    "_do_paste_mask": (
        "mmdet.models.roi_heads.mask_heads.fcn_mask_head",
        ["masks", "boxes", "img_h", "img_w", "skip_empty"],
    ),
    "_get_base_files": ("mmengine.config.Config", ["filename"]),
    "_get_cfg_path": ("mmengine.config.Config", ["cfg_path", "filename"]),
    "_get_relation_matrix": ("mmdet.datasets.OpenImagesChallengeDataset", ["self", "hierarchy_file"]),
    "_get_repeat_factors": ("mmengine.dataset.ClassBalancedDataset", ["self", "dataset", "repeat_thr"]),
    "_get_value": ("mmengine.optim._ParamScheduler", ["self"]),
    "_init_env": ("mmengine.visualization.BaseVisBackend", ["self"]),
    "_init_rule": ("mmengine.hooks.CheckpointHook", ["self", "rules", "key_indicators"]),
    "_load_masks": ("mmdet.datasets.transforms.loading.LoadAnnotations", ["self", "results"]),
    "_load_masks_and_semantic_segs": (
        "mmdet.datasets.transforms.loading.LoadPanopticAnnotations",
        ["self", "results"],
    ),
    "_merge_single_sample": ("mmdet.models.test_time_augs.DetTTAModel", ["self", "data_samples"]),
    "_parse_predictions": (
        "mmdet.evaluation.CocoPanopticMetric",
        ["self", "pred", "img_id", "segm_file", "label2cat"],
    ),
    "_save_checkpoint_with_step": ("mmengine.hooks.CheckpointHook", ["self", "runner", "step", "meta"]),
    "_predict_by_feat_single": (
        "mmdet.models.dense_heads.base_dense_head.BaseDenseHead",
        [
            "self",
            "cls_score_list",
            "bbox_pred_list",
            "score_factor_list",
            "mlvl_priors",
            "img_meta",
            "cfg",
            "rescale",
            "with_nms",
        ],
    ),
    "_process_masks": ("mmdet.datasets.transforms.loading.LoadAnnotations", ["self", "results"]),
    "_substitute_env_variables": ("mmengine.config.Config", ["filename", "temp_config_name"]),
    "_substitute_predefined_vars": ("mmengine.config.Config", ["filename", "temp_config_name"]),
    "_transform_inputs": ("mmseg.models.decode_heads.decode_head.BaseDecodeHead", ["self", "inputs"]),
}
ATTRIBUTES = {"_coco_api": "mmdet.evaluation.CocoPanopticMetric"}  # set in the class's __init__
# os._exit, sys._current_frames and NamedTuple's names, which Python documents; annotations in pycocotools' COCOeval;
# the kept workers of PyTorch's DataLoader, which has no public way to end them.
NOT_OF_MM = {
    "_exit",
    "_current_frames",
    "_replace",
    "_asdict",
    "_fields",
    "_gts",
    "_dts",
    "_iterator",
    "_shutdown_workers",
}


def private_names():
    """(name, place) of every underscored attribute, import or method in the code that meets mm."""
    for path in (file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") if "configs" not in file.parts):
        for node in ast.walk(ast.parse(path.read_text())):
            kinds = {ast.Attribute: "attr", ast.FunctionDef: "name", ast.alias: "name"}
            name = getattr(node, kinds.get(type(node), ""), "").split(".")[-1]
            if name.startswith("_") and not name.startswith("__"):
                yield name, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_private_name_is_listed():
    used = dict(private_names())
    listed = PRIVATE.keys() | ATTRIBUTES.keys()
    unlisted = {name: place for name, place in used.items() if name not in listed and name not in NOT_OF_MM}
    assert not unlisted
    assert not listed - used.keys(), "listed, but not used any more"


@pytest.mark.parametrize("name", PRIVATE)
def test_a_listed_name_is_still_there(name):
    owner, arguments = PRIVATE[name]
    module, _, kind = owner.rpartition(".")
    if module.startswith("mmdet"):
        importlib.import_module("detection")
    theirs = getattr(getattr(importlib.import_module(module), kind), name)
    assert list(inspect.signature(theirs).parameters) == arguments


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_listed_attribute_is_still_set(name):
    importlib.import_module("detection")
    module, _, kind = ATTRIBUTES[name].rpartition(".")
    assert f"self.{name} = " in inspect.getsource(getattr(importlib.import_module(module), kind))


def overrides():
    for ours, theirs in (
        (SafeRunner, Runner),
        (SafeCheckpointHook, CheckpointHook),
        (ProgressHook, Hook),
        (BuffersHook, Hook),
    ):
        for name in vars(ours):
            if inspect.isfunction(getattr(theirs, name, None)) and not name.startswith("__"):
                yield pytest.param(getattr(ours, name), getattr(theirs, name), id=f"{ours.__name__}.{name}")


@pytest.mark.parametrize(("ours", "theirs"), overrides())
def test_an_override_takes_what_mmengine_hands_over(ours, theirs):
    """Every argument of theirs fits ours, by position and by name."""
    signature = inspect.signature(ours)
    parameters = [p for p in inspect.signature(theirs).parameters.values() if p.name != "self"]
    named = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL]
    signature.bind(None, *named)
    signature.bind(None, **dict.fromkeys(named))
    assert not [
        p for p in signature.parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        and p.name not in ("self", *named)
    ]  # fmt: skip


def test_the_runners_overrides_are_those_without_another_seam():
    """A new one is a reason to look for a hook or an option of the config first."""
    overridden = {name for name in vars(SafeRunner) if hasattr(Runner, name) and not name.startswith("__")}
    loops, files = {"train", "val", "test"}, {"load_checkpoint", "load_or_resume", "save_checkpoint", "dump_config"}
    assert overridden == loops | files | {"build_logger", "build_dataloader", "wrap_model"}


@pytest.mark.parametrize("build", [build_from_cfg, build_scheduler_from_cfg])
def test_builders_take_what_a_mistake_is_told_from(build):
    assert build.__code__ in mistakes.BUILDERS
    assert list(inspect.signature(build).parameters) == list(mistakes.PARAMETERS)


def test_mmengine_removes_outdated_checkpoints_through_its_file_backend(tmp_path):
    """So that SafeCheckpointHook can make it wait, and never remove a file that only a hostile record names.

    What is removed in before_train is not wanted by a resumed run.
    """
    removals = [
        node.func.value
        for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(CheckpointHook.__module__))))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("remove", "rmtree", "unlink")
    ]
    assert removals and {ast.unparse(owner) for owner in removals} == {"self.file_backend"}
    elsewhere, old, new = tmp_path.parent / "other.pth", tmp_path / "old.pth", tmp_path / "new.pth"
    backend = LateRemoval(None, tmp_path)
    for path in (old, new, elsewhere, tmp_path / "notes.txt"):
        backend.remove(str(path))
    assert backend.take([str(new), None]) == {old} and backend.take([]) == set()


def test_a_config_is_formatted_once_for_all_its_readers(monkeypatch):
    """And mmengine still asks yapf's own function, by the name that remembers."""
    calls = []

    def format_code(text, **options):
        calls.append((text, options))
        return text.upper(), True

    monkeypatch.setattr(yapf_api, "FormatCode", format_code)
    format_configs_once()
    format_configs_once()
    cfg = Config(dict(a=1, b=dict(c=[1, 2])))
    first = cfg.pretty_text
    assert first == copy.deepcopy(cfg).pretty_text == cfg.pretty_text and "A=1" in first
    assert len(calls) == 1 and calls[0][1]["style_config"]["based_on_style"] == "pep8"
    cfg.a = 2
    assert "A=2" in cfg.pretty_text and len(calls) == 2
