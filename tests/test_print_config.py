"""tools/print_config.py prints the completed run as one file, which loads to the same run without a base."""

import ast

import print_config
import pytest
from helpers import run
from mmengine.config import Config

from ziggurat.engine.config import READ_KEYS, load_config

LEAVES = [
    "classification/configs/van/van_b0_8xb128_in1k.py",
    "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation/configs/demo/upernet_van_b0_digits.py",
]


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("options", [[], ["model.backbone.arch=vig_tiny", "classes=[a,b,'c d']", "data_root=no where"]])
def test_the_printed_file_is_the_same_run(leaf, options, request, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(request.config.rootpath)
    if options and "upernet" in leaf:  # the demo weighs its eleven classes
        weights = [f"model.{head}.loss_decode.class_weight=None" for head in ("decode_head", "auxiliary_head")]
        options = [*options, *weights]
    status, out, err = run(print_config, [leaf, *(["--cfg-options", *options] if options else [])], monkeypatch, capsys)
    assert status in (0, None) and err == ""
    path = tmp_path / "mine.py"
    path.write_text(out)
    wanted = load_config(leaf, options).to_dict()
    printed = load_config(path).to_dict()
    read = [{key: value for key, value in one.items() if key in READ_KEYS} for one in (wanted, printed)]
    assert read[0] == read[1]
    if not options:  # the names that helped to write the config are gone
        assert set(printed) <= READ_KEYS
    assert Config.fromfile(path).to_dict() == printed  # nothing was left to be completed
    assert not any(isinstance(node, ast.Name) and node.id == "_base_" for node in ast.walk(ast.parse(out)))
    for key in ("test_dataloader", "test_evaluator", "test_cfg"):
        assert printed[key]
    if not leaf.startswith("classification"):
        assert printed["train_pipeline"] == printed["train_dataloader"]["dataset"]["pipeline"]
        assert printed["test_pipeline"] == printed["test_dataloader"]["dataset"]["pipeline"]


def test_a_mistake_is_one_line(monkeypatch, capsys):
    status, out, err = run(print_config, ["absent.py"], monkeypatch, capsys)
    assert status == 2 and out == "" and err.startswith("error: no such config: absent.py")
