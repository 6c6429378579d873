"""With --safe a config is data: refused before anything runs, unless it has nothing but literals and ``_base_``.

What this project writes, a run's config and that of tools/print_config.py, is such data.
"""

import importlib
import os
from pathlib import Path

import dense_data
import pytest
import torch
import train
from conftest import ROOT
from helpers import run
from mmengine.config import Config
from paper_run import RECIPE, options_for

from backbones import UserError
from ziggurat.engine.cli import SAFE
from ziggurat.engine.config import load_config
from ziggurat.engine.config_text import text_of
from ziggurat.engine.run import build_training
from ziggurat.engine.safe_config import check_file
from ziggurat.engine.work_dir import WorkDir

LEAVES = {
    "classification": "classification/configs/van/van_b0_8xb128_paper_in1k.py",
    "detection": "detection/configs/van/dino_van_b2_12e_coco.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
LAUGHS = "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]"
RETINANET = "detection/configs/van/retinanet_van_b0_fpn_1x_coco.py"
HAM = "segmentation/configs/van/light_ham_van_b0_512x512_160k_ade20k.py"
MKDIR = "__import__('os').mkdir('ran')"
DATA = """'''A docstring.'''
# A comment.
_base_ = ["base.py"]
model = dict(type="A", n=-1, x=+1.5e-3, parts=[dict(), {"a b": (1, None, True)}], kind={1, 2}, y=dict({"a b": 1}, c=2))
a = b = "text" "joined"
"""
CODE = {
    "an import": "import os",
    "an import of a name": "from os import mkdir",
    "a call": f"a = {MKDIR}",
    "a call in a list": f"a = [1, {MKDIR}]",
    "a call in a dict": f"a = dict(b={MKDIR})",
    "a call as a key": f"a = {{{MKDIR}: 1}}",
    "a statement": MKDIR,
    "a text that is filled in": f"a = f'{{{MKDIR}}}'",
    "a comprehension": f"a = [{MKDIR} for i in range(1)]",
    "a lambda": "a = lambda: 1",
    "a function": "def f(): pass",
    "a class": f"class A:\n    x = {MKDIR}",
    "a name": "a = __file__",
    "an attribute": "a = (1).real",
    "an item": "a = [1][0]",
    "arithmetic": "a = 9 ** 9 ** 9",
    "dict of pairs": "a = dict([(1, 2)])",
    "unpacking": "a = [*'abc']",
    "an unpacked dict": "a = dict(**{'b': 1})",
    "an unpacked literal": "a = {**{'b': 1}}",
    "a branch": "if True:\n    a = 1",
    "an item that is set": "a = {}\na['b'] = 1",
    "a deletion": "del a",
    "an addition": "a = 1\na += 1",
    "an annotation": f"a: {MKDIR} = 1",
    "a walrus": "a = (b := 1)",
    "a base that is called": f"_base_ = {MKDIR}",
    "two bases": "_base_ = 'base.py'\n_base_ = 'base.py'",
    "a default of the environment": "a = '{{$NO_SUCH:' + " + MKDIR + " + '}}'",
    "a text that ends in the environment": 'a = "{{$NO_SUCH:" + ' + MKDIR.replace('"', "'") + ' + "}}"',
    "a name of the file": "a = '{{ fileBasename }}'",
    "a module": "custom_imports = dict(imports=['evilmod'])",
    "a module as text": "custom_imports = dict(imports='evilmod')",
    "a base with code": "_base_ = 'evil.py'",
    "a base of a base": "_base_ = ['base.py', 'child_of_evil.py']",
    "a base that is absent": "_base_ = 'no_such.py'",
    "a base that is a number": "_base_ = 3",
    "bases that are a dict": "_base_ = dict(a=1)",
    "a number as imports": "custom_imports = 3",
    "a base of a package": "_base_ = 'evilmod::a.py'",
    "nothing that is Python": "a = (",
    "deep nesting": "a = " + "[" * 5000 + "]" * 5000,
    "deep signs": "a = " + "-" * 50_000 + "1",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with bases and a module that makes ``ran``."""
    (tmp_path / "base.py").write_text("lr = 1e-3\n")
    (tmp_path / "evil.py").write_text(f"a = {MKDIR}\n")
    (tmp_path / "child_of_evil.py").write_text("_base_ = 'evil.py'\n")
    (tmp_path / "evilmod.py").write_text("import os\nos.mkdir('ran')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(SAFE, "1")
    return tmp_path


def test_data_pass(folder):
    (folder / "config.py").write_text(DATA)
    check_file("config.py")
    (folder / "config.yaml").write_text("_base_: base.py\nmodel:\n  type: A\n")
    check_file("config.yaml")


@pytest.mark.parametrize("kind", CODE)
def test_code_is_refused_before_it_runs(kind, folder):
    (folder / "config.py").write_text(f"model = dict(type='A')\n{CODE[kind]}\n")
    with pytest.raises(UserError) as caught:
        load_config("config.py")
    line = str(caught.value)
    assert "\n" not in line and ".py" in line and not (folder / "ran").exists()
    assert "allowed" in line or "cannot be read" in line
    assert len(line) < 400


def test_configs_of_the_project_are_trusted_as_bases(folder):
    (folder / "mine.py").write_text("_base_ = 'mask_rcnn_van_b2_fpn_1x_coco'\n")  # whose bases have names and calls
    assert load_config(folder / "mine.py").model.type == "MaskRCNN"


@pytest.mark.parametrize("base", ["/dev/zero", "big.py"])
def test_a_base_without_an_end_is_not_read(folder, base):
    (folder / "big.py").write_text("#" * 10_000_001)
    (folder / "endless.py").write_text(f"_base_ = {base!r}")
    with pytest.raises(UserError, match=r"allowed: a file of at most 10000000 bytes"):
        check_file(folder / "endless.py")


def test_a_yaml_file_is_checked_too(folder):
    for text in (
        "_base_: evil.py",
        "custom_imports: {imports: [evilmod]}",
        "a: !!python/name:os.system",
        "- 1",
        LAUGHS,
    ):
        (folder / "config.yaml").write_text(f"{text}\n")
        with pytest.raises(UserError):
            check_file("config.yaml")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("part", ["model.neck", "custom_hooks.0"])
def test_a_type_is_registered(part, folder, monkeypatch):
    """Literals alone can name any function of any module."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(SAFE)
    options = {"data_root": str(dense_data.write_coco(folder / "data")), **dense_data.SMALL_LOADERS}
    cfg = load_config(RETINANET, options)
    cfg.custom_hooks, cfg.model.backbone.pretrained = [dict(type="EMAHook")], None
    cfg.merge_from_dict({f"{part}.type": "evilmod.anything"}, allow_list_keys=True)
    monkeypatch.setenv(SAFE, "1")
    monkeypatch.chdir(folder)
    cfg.dump("config.yaml")
    with pytest.raises(UserError, match="evilmod"):
        build_training(load_config("config.yaml"), folder / "run", device="cpu")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("name", LEAVES)
def test_what_this_project_writes_passes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load_config(LEAVES[name])
    (tmp_path / "config.py").write_text(text_of(cfg))
    monkeypatch.setenv(SAFE, "1")
    again = load_config(tmp_path / "config.py")
    assert again.model.to_dict() == cfg.model.to_dict()


def test_a_dumped_config_trains_with_the_option(tmp_path, noise_images, monkeypatch, capsys, shallow_van):
    monkeypatch.chdir(ROOT)
    cfg = load_config(RECIPE, options_for(noise_images, workers=0))
    (tmp_path / "config.py").write_text(text_of(cfg))
    how = [tmp_path / "config.py", "--safe", "--work-dir", tmp_path / "run", "--device", "cpu"]
    status, _, err = run(train, how, monkeypatch, capsys)
    assert status == 0, err
    check_file(tmp_path / "run/config.py")
    assert SAFE not in os.environ


def test_every_tool_with_a_config_has_the_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(f"a = {MKDIR}\n")
    torch.save({"state_dict": {}}, tmp_path / "x.pth")
    (tmp_path / "y.png").touch()
    before = {"predict": ["x.pth", "y.png"], "test": ["x.pth"]}
    for name in ("train", "test", "predict", "print_config", "browse_dataset", "benchmark", "model_info"):
        tool = importlib.import_module(name)
        status, _, err = run(tool, ["evil.py", *before.get(name, []), "--safe"], monkeypatch, capsys)
        assert status == 2 and "is not a literal; allowed with --safe" in err and err.count("\n") == 1, (name, err)
    assert not (tmp_path / "ran").exists()


NAMES = ("{{ fileDirname }}", "{{$HOME:x}}", "{{_base_.lr}}", "{{", "a}} {{b", "'\"\\", "{{fileBasename}}{{", "\x1b[2J")


def test_names_survive_the_dump(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    cfg = Config(dict(metainfo=dict(classes=NAMES), more=[*NAMES, dict(a=NAMES[0])]))
    (tmp_path / "a.py").write_text(text_of(cfg))
    again = Config.fromfile(tmp_path / "a.py")
    assert again.metainfo.classes == NAMES and again.more[:-1] == list(NAMES) and again.more[-1].a == NAMES[0]
    check_file(tmp_path / "a.py")


def test_a_runs_config_keeps_the_names_of_its_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = WorkDir(tmp_path)
    cfg = load_config(HAM, {"classes": list(NAMES[:3])})
    folder.write_config(cfg)
    again = load_config(tmp_path / Path(HAM).name)
    assert tuple(again.train_dataloader.dataset.metainfo.classes) == NAMES[:3]
