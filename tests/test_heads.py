"""The table of mmdet's and mmseg's models covers what is installed, and the runner that fills the table is right."""

import importlib
import json
import os
import sys
import time

import choose
import heads
import heads_table
import pytest
import trial
from pool import run_each
from swap import swapped

from ziggurat import mmcv_ops

mmcv_ops.install()

TABLE = json.loads(heads_table.KEPT.read_text())
ROWS = {row["config"]: row for row in TABLE["rows"]}


# The kept table


def test_the_page_is_made_from_the_table():
    assert heads_table.PAGE.read_text() == heads_table.page(TABLE)


@pytest.mark.parametrize("library", choose.LIBRARIES)
def test_every_folder_of_the_installed_configs_has_a_row(library):
    assert TABLE["versions"] == choose.versions()
    found = choose.folders(library)
    named = [name.partition("::")[2] for name in ROWS if name.startswith(f"{library}::")]
    assert [name for name in named if not (choose.config_folder(library) / name).is_file()] == []
    without = set(found) - {name.split("/")[0] for name in named}
    assert {folder for folder in without if choose.read_all(found[folder])} == set()


BASES = {
    "mmdet.models.detectors": {
        "BaseDetector", "DetectionTransformer", "SemiBaseDetector", "TwoStageDetector", "TwoStagePanopticSegmentor",
    },
    "mmdet.models.necks": {"SSH"},  # of no config
    "mmseg.models.segmentors": {"BaseSegmentor", "SegTTAModel"},
    "mmseg.models.decode_heads": {"KernelUpdator"},  # a part of KernelUpdateHead
    "mmseg.models.necks": set(),
}  # fmt: skip


@pytest.mark.parametrize("module", BASES)
def test_every_class_that_is_no_base_of_others_is_in_a_row(module):
    tried = {kind for row in ROWS.values() for kind in (row["model"], *row["parts"])}
    assert set(importlib.import_module(module).__all__) - tried == BASES[module]


def test_every_row_is_whole_and_no_model_fails_that_works_with_its_own_network():
    for name, row in ROWS.items():
        assert {"config", "model", "parts", "trains", "tests"} <= set(row), name
        assert ("why" in row) == (not (row["trains"] and row["tests"])), name
        assert ("arch" in row) or "why" in row, name
        assert not heads.is_worse(row, {}), name


# The choice of rows


def test_rows_are_one_of_a_folder_and_one_of_a_combination(monkeypatch):
    every = {library: choose.folders(library) for library in choose.LIBRARIES}
    few = {"mmdet": ["atss", "dyhead", "pafpn"], "mmseg": ["apcnet", "sem_fpn"]}
    monkeypatch.setattr(choose, "folders", lambda library: {name: every[library][name] for name in few[library]})
    rows = choose.choose()
    assert [row["config"].split("/")[0] for row in rows] == [
        "mmdet::atss", "mmdet::dyhead", "mmdet::pafpn", "mmseg::apcnet", "mmseg::sem_fpn",
    ]  # fmt: skip
    assert rows[0] == dict(config="mmdet::atss/atss_r50_fpn_1x_coco.py", model="ATSS", parts=["FPN", "ATSSHead"])
    assert rows[3]["parts"] == ["APCHead", "FCNHead"]


def test_a_combination_counts_once(monkeypatch, tmp_path):
    texts = {
        "a/one.py": "model = dict(type='M', neck=dict(type='N'), bbox_head=dict(type='H'))",
        "a/three.py": "model = dict(type='M', bbox_head=[dict(type='H'), dict(type='I')], backbone=dict(type='X'))",
        "b/two.py": "model = dict(type='M', bbox_head=dict(type='H'), neck=dict(type='N'))",
        "b/three_again.py": "model = dict(type='M', bbox_head=[dict(type='I'), dict(type='H')])",
        "c/data.py": "data = 1",
        "c/broken.py": "_base_ = 'absent.py'",
        "_base_/m.py": "model = dict(type='M')",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(choose, "config_folder", lambda library: tmp_path)
    monkeypatch.setattr(choose, "LIBRARIES", ("mmdet",))
    assert choose.choose() == [
        dict(config="mmdet::a/one.py", model="M", parts=["N", "H"]),
        dict(config="mmdet::a/three.py", model="M", parts=["H", "I"]),
        dict(config="mmdet::b/two.py", model="M", parts=["H", "N"]),
    ]


# The network in a config


def test_our_network_has_the_maps_that_the_config_needs():
    cfg, _ = swapped("mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py")
    assert cfg.model.backbone.out_indices == (1, 2, 3) and cfg.model.neck.in_channels == [256, 160, 64]
    cfg, _ = swapped("mmseg::pspnet/pspnet_r18-d8_4xb4-80k_isaid-896x896.py")
    assert cfg.model.backbone.output_stride == 8 and cfg.model.pretrained is None
    assert (cfg.model.decode_head.in_channels, cfg.model.auxiliary_head.in_channels) == (256, 160)
    cfg, _ = swapped("mmseg::setr/setr_vit-l_pup_8xb2-160k_ade20k-512x512.py")
    assert cfg.model.backbone.arch == "vig_tiny" and cfg.model.backbone.out_blocks == (2, 5, 8, 11)
    assert cfg.model.decode_head.in_channels == 192 and "neck" not in cfg.model


def test_imports_and_classes_of_mms_own_bases_do_not_stop_a_config():
    cfg, _ = swapped("mmseg::poolformer/fpn_poolformer_s36_8x4_512x512_40k_ade20k.py")  # its base imports mmpretrain
    assert cfg.custom_imports.imports == ["segmentation"] and cfg.model.neck.in_channels == [32, 64, 160, 256]
    cfg, _ = swapped("mmdet::v3det/dino-4scale_r50_8xb2_sample1e-3_v3det_36e.py")  # classes are in a file of its own
    assert cfg.model.bbox_head.num_classes == 13204 and cfg.train_cfg.val_interval == 82512


# The runner


@pytest.mark.parametrize("name", ["mmdet::yolof/*", "mmseg::fcn/*"])
def test_a_cheap_row_trains_and_tests(name):
    name = next(row for row in ROWS if row.startswith(name.rstrip("*")))
    assert trial.run(name) == dict(trains=True, tests=True, arch="van_b0")


def test_losses_gradients_and_predictions_must_be_finite(monkeypatch):
    name = next(row for row in ROWS if row.startswith("mmseg::fcn/"))
    monkeypatch.setattr("mmseg.models.FCNHead.loss_by_feat", lambda self, logits, samples: dict(loss=logits.sum() / 0))
    monkeypatch.setattr("mmseg.models.FCNHead.predict_by_feat", lambda self, logits, metas: logits / 0)
    found = trial.outcome_of(swapped, name)
    assert not found["trains"] and not found["tests"]
    assert len(found["why"]) == 2 and all("is not finite" in why for why in found["why"])


def some_work(name):
    if name == "dies":
        os._exit(3)
    if name == "sleeps":
        time.sleep(60)
    if name == "eats":
        bytearray(400 * 2**20)
    return dict(trains=True, tests=True)


def test_each_row_has_a_process_with_limits():
    names = ["works", "dies", "sleeps", "eats"]
    start = time.monotonic()
    outcomes = dict(run_each(some_work, names, processes=2, seconds=3, gib=0.2))
    assert time.monotonic() - start < 30
    assert outcomes == {
        "works": dict(trains=True, tests=True),
        "dies": dict(why=["its process ended with status 3"]),
        "sleeps": dict(why=["takes more than 3 s"]),
        "eats": dict(why=["takes more than 0.2 GiB"]),
    }


@pytest.fixture
def table(monkeypatch, tmp_path):
    """A runner that chooses three rows, of which the second fails at first, and writes into a folder of its own."""
    rows = ["mmdet::atss/a.py", "mmdet::gfl/b.py", "mmdet::glip/c.py"]
    monkeypatch.setattr(heads, "choose", lambda: [dict(config=name, model="M", parts=[]) for name in rows])
    monkeypatch.setattr(heads, "be_quiet", lambda: None)
    monkeypatch.setattr(heads, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(heads, "PROGRESS", tmp_path / "progress.json")
    return tmp_path


def run_heads(monkeypatch, work, *argv):
    monkeypatch.setattr(trial, "run", work)
    monkeypatch.setattr(sys, "argv", ["heads.py", *argv])
    return heads.main()


@pytest.mark.parametrize(
    ("own", "before", "status"),
    [("both", [], 1), ("tests", [], 1), ("trains", [], 0), ("neither", [], 0), ("neither", ["tests"], 1)],
)
def test_the_run_writes_the_table_and_tells_of_models_that_are_worse(table, monkeypatch, capsys, own, before, status):
    old = [dict(config="mmdet::gfl/b.py", **{step: step in before for step in trial.STEPS})]
    (table / "kept.json").write_text(json.dumps(dict(versions={}, rows=old)))
    fails = dict(trains=True, tests=False, why=["E"], own=own)
    works = dict(trains=True, tests=True)
    assert run_heads(monkeypatch, lambda name: fails if "gfl" in name else works) == status
    out, err = capsys.readouterr()
    assert "3 configs: 2 train, 1 test" in out
    assert err == ("unexpected: mmdet::gfl/b.py: trains; E\n" if status else "")
    rows = json.loads((table / "kept.json").read_text())["rows"]
    assert [row["trains"] for row in rows] == [True, True, False] and "BERT" in rows[2]["why"][0]
    assert not (table / "progress.json").exists()


def test_an_interrupted_run_goes_on_with_what_is_missing_or_failed(table, monkeypatch):
    done = [dict(config="mmdet::atss/a.py", model="M", parts=[], trains=True, tests=True, arch="kept")]
    done += [dict(config="mmdet::gfl/b.py", model="M", parts=[], trains=False, tests=False, why=["E"], own="both")]
    (table / "progress.json").write_text(json.dumps(dict(versions=choose.versions(), rows=done)))
    assert run_heads(monkeypatch, lambda name: dict(trains=True, tests=True, arch="new")) == 0
    rows = json.loads((table / "kept.json").read_text())["rows"]
    assert [row["arch"] for row in rows] == ["kept", "new"] and "why" not in rows[1] and "own" not in rows[1]


def test_patterns_try_a_few_rows_and_write_nothing(table, monkeypatch, capsys):
    assert run_heads(monkeypatch, lambda name: dict(trains=True, tests=True), "mmdet::g[f]*") == 0
    assert "1 configs: 1 train, 1 test" in capsys.readouterr().out
    assert list(table.iterdir()) == []
    with pytest.raises(heads.UserError, match="no row is named mmseg"):
        run_heads(monkeypatch, None, "mmseg::*")
    with pytest.raises(heads.UserError, match="--seconds is 0"):
        run_heads(monkeypatch, None, "--seconds", "0")
