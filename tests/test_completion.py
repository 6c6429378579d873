"""Shells complete the command ``ziggurat``: commands, options, choices, and the names of configs."""

import json
import os
import shutil
import subprocess
import sys

import options_table
import pytest
from conftest import ROOT

from ziggurat import completion
from ziggurat.command import COMMANDS
from ziggurat.engine.project_configs import project_configs


def completed(*words):
    return completion.words_for(list(words), [*COMMANDS])


def test_the_table_is_that_of_the_tools():
    table = options_table.table()
    assert table == json.loads(completion.TABLE.read_text()), "make docs writes it anew"
    assert {name for name, options in table["options"].items() if not options} == {"launch"}
    assert {*completion.NAMED} <= {*COMMANDS}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), sorted(COMMANDS)),
        (("convert",), ["convert-data", "convert-weights"]),
        (("no",), []),
        (("train", "retinanet_vvt"), ["retinanet_vvt_medium_fpn_1x_coco", "retinanet_vvt_small_fpn_1x_coco"]),
        (("train", "x", "--over"), ["--overwrite"]),
        (("train", "x", "--device", ""), ["cpu", "cuda"]),
        (("train", "x", "--work-dir", ""), []),
        (("no", "--"), []),
        (("launch", ""), []),
        (("launch", "2", "d"), ["distill"]),
        (("launch", "2", "train", "x", "--device", ""), ["cpu", "cuda"]),
        (("completion", ""), ["bash", "fish", "zsh"]),
        (("help", "tr"), ["train"]),
        (("features", "pvig_ti"), ["pvig_tiny", "pvig_tiny.in1k"]),
        (("features", "van_b0", "x.jpg", "--pretrained", "vig"), ["vig_base.in1k", "vig_small.in1k", "vig_tiny.in1k"]),
        (("export", "vvt_tiny."), ["vvt_tiny.in1k"]),
        (("knn", "--arch", "hornet_large_gf"), ["hornet_large_gf", "hornet_large_gf384"]),
        (("predict", "van_b2.in1k", "x.jpg", ""), []),
    ],
)
def test_words_are_completed(words, found):
    assert [word for word in completed(*words) if not word.startswith("retinanet_vvt_large")] == found


def test_all_configs_are_offered_and_no_part_of_one():
    assert completed("train", "") == sorted(project_configs())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_asks_the_command(tmp_path):
    (tmp_path / "ziggurat").write_text(f'#!/bin/sh\nexec {sys.executable} -m ziggurat "$@"\n')
    (tmp_path / "ziggurat").chmod(0o755)
    text = "source <(ziggurat completion bash); COMP_WORDS=(ziggurat train x --dev); COMP_CWORD=3; _ziggurat\n"
    text += 'echo "${COMPREPLY[@]}"'
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True)
    assert done.stdout == "--device\n", done.stderr


@pytest.mark.parametrize("given", [[], ["csh"], ["bash", "zsh"]])
def test_an_unknown_shell_is_one_line(given):
    command = [sys.executable, "-m", "ziggurat", "completion", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.endswith("allowed: bash, zsh, fish (see ziggurat --help)\n")
