"""--cfg-options: values are read as by mmengine's tools, but quoted text, names and paths arrive as typed."""

import argparse

import pytest
from mmengine.config import DictAction

from backbones import UserError
from ziggurat.engine.config import load_config
from ziggurat.engine.options import parse_options


@pytest.mark.parametrize(
    "value",
    ["1", "-2", "1e-3", "0.5", "true", "False", "None", "text", "a/b.c", "[1,2]", "(1,2)", "[1,[2,x],(3,)]", "1,2"]
    + ["a,b", "[]", "()", "[true,None]", "(1,[x,y])", "1_0"],
)
def test_values_are_those_of_mmengine(value):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    theirs = parser.parse_args(["--cfg-options", f"key={value}"]).cfg_options["key"]
    ours = parse_options([f"key={value}"])["key"]
    assert ours == theirs and type(ours) is type(theirs)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("a.b='two words'", "two words"),
        ("a=[' x ',\"y, z\"]", [" x ", "y, z"]),
        ("a=['1',2]", ["1", 2]),
        ("a=the dog's", "the dog's"),
        ("classes=['traffic light',dog]", ["traffic light", "dog"]),
        ("classes=[0,007]", ["0", "007"]),
        ("classes=7", 7),
        ("train_dataloader.dataset.data_prefix.img=2017", "2017"),
        ("val_dataloader.dataset.ann_file=2017.5", "2017.5"),
        ("model.backbone.pretrained=None", None),
        ("model.backbone.pretrained=true", True),
        ("data_root=/my data/'x',y", "/my data/'x',y"),
        ("optim_wrapper.optimizer={'type': 'SGD', 'lr': 0.1, 'x': [1, {'y': None}]}", {"type": "SGD", "lr": 0.1}),
    ],
)
def test_values_arrive_as_typed(option, value):
    (parsed,) = parse_options([option]).values()
    if isinstance(value, dict):
        assert parsed.pop("x") == [1, {"y": None}]
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "option", ["lr", "=3", "a..b=3", ".=1", "a=[1,2", "a=1]", "a=(1]", "a=['x]", "a={'b': 1", "a={b}"]
)
def test_a_bad_option_is_named(option):
    with pytest.raises(UserError, match="bad option"):
        parse_options([option])


@pytest.mark.parametrize(
    ("option", "parsed"),
    [
        ("model.backbone.arch = van_b1", {"model.backbone.arch": "van_b1"}),
        (" a.b =[1, 2] ", {"a.b": [1, 2]}),
        ("data_root = my data", {"data_root": "my data"}),
    ],
)
def test_blanks_around_the_sign_do_not_count(option, parsed):
    assert parse_options([option]) == parsed


@pytest.mark.parametrize(
    "option",
    ["model.backbone=dict(type='VAN',arch='van_b0')", "custom_hooks=[dict(type=EMAHook)]", "a={'b': dict(c=1)}"]
    + ["a=(1,dict())", "classes=dict(a=1)"],
)
def test_a_call_of_dict_says_how_to_write_a_dict(option):
    with pytest.raises(UserError, match=r"bad option .*write a dict as \{'type': ...\}"):
        parse_options([option])


def test_text_about_dict_is_text():
    assert parse_options(["a='dict(b=1)'", "b=my_dict(1)", "data_root=dict(a"]) == {
        "a": "dict(b=1)",
        "b": "my_dict(1)",
        "data_root": "dict(a",
    }


def test_a_dict_changes_the_part_that_it_names(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    leaf = "classification/configs/van/van_b0_8xb128_in1k.py"
    cfg = load_config(leaf, ["optim_wrapper.optimizer={'type':'SGD','lr':0.1,'momentum':0.9}"])
    assert cfg.optim_wrapper.optimizer == dict(type="SGD", lr=0.1, weight_decay=0.05, momentum=0.9)
    cfg = load_config(leaf, ["optim_wrapper.optimizer={'_delete_':True,'type':'SGD','lr':0.1}"])
    assert cfg.optim_wrapper.optimizer == dict(type="SGD", lr=0.1)
