"""Configs and the command line: one option moves the data, and every mistake is one line and exit status 2."""

import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from backbones.errors import Notice, UserError
from ziggurat.engine import cli
from ziggurat.engine.cli import Parser, output_folder, run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.console import library_warnings_to
from ziggurat.engine.options import parse_options

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO = REPOSITORY / "classification/configs/demo/van_b0_digits.py"
MASKS = DEMO.parents[3] / "segmentation/configs/demo/upernet_van_b0_digits.py"


def test_options_are_parsed_as_mm_does():
    options = ["a.b=1", "c=1e-3", "d=true", "e=None", "f=[1,2]", "g=(1,[x,y])", "h=a,b", "data_root=/my data/x,y"]
    assert parse_options(options) == {
        "a.b": 1,
        "c": 1e-3,
        "d": True,
        "e": None,
        "f": [1, 2],
        "g": (1, ["x", "y"]),
        "h": ["a", "b"],
        "data_root": "/my data/x,y",
    }


@pytest.mark.parametrize("option", ["lr", "=3", "a..b=3", "a=[1,2", ".=1"])
def test_a_bad_option_is_named(option):
    with pytest.raises(UserError, match="bad option"):
        parse_options([option])


def test_unknown_config_and_option_get_the_nearest_names():
    with pytest.raises(UserError, match=r"nearest: classification/configs/demo/van_b0_digits\.py"):
        load_config("classification/configs/demo/van_b0_digit.py")
    with pytest.raises(UserError, match=r"unknown option.*optim_wraper.*optim_wrapper"):
        load_config(DEMO, ["optim_wraper.optimizer.lr=1"])


def test_configs_of_the_project_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in (DEMO.stem, DEMO.relative_to(REPOSITORY)):
        assert Path(load_config(given).filename).samefile(DEMO)
    (tmp_path / DEMO.stem).mkdir()  # a work dir of that name is no config
    assert Path(load_config(DEMO.stem).filename).samefile(DEMO)
    (tmp_path / DEMO.relative_to(REPOSITORY)).parent.mkdir(parents=True)
    (tmp_path / DEMO.relative_to(REPOSITORY)).write_text("model = dict(type='The user\\'s own')")
    with pytest.raises(UserError, match="names no task"):
        load_config(DEMO.relative_to(REPOSITORY))


@pytest.mark.parametrize("base", ["'van_b0_digits'", "['van_b0_digits']"])
def test_a_base_is_found_by_its_name(base, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(f"_base_ = {base}\nmax_unreadable = 3\n")
    cfg = load_config(tmp_path / "mine.py")
    assert cfg.model.to_dict() == load_config(DEMO).model.to_dict() and cfg.max_unreadable == 3
    monkeypatch.setenv("ZIGGURAT_SAFE", "1")
    assert load_config(tmp_path / "mine.py").max_unreadable == 3


def test_a_file_comes_before_a_name_and_an_absent_base_is_named(tmp_path):
    (tmp_path / "van_b0_digits").write_text("")
    (tmp_path / "mine.py").write_text("_base_ = 'van_b0_digits'\n")
    with pytest.raises(UserError, match=r"mine\.py cannot be read"):
        load_config(tmp_path / "mine.py")
    (tmp_path / "other.py").write_text("_base_ = 'van_b0_digitz'\n")
    with pytest.raises(UserError, match=r"_base_ of .*other\.py: no such config: van_b0_digitz; nearest: van_b0"):
        load_config(tmp_path / "other.py")


def test_the_nearest_config_is_one_that_is_there(tmp_path, monkeypatch):
    """From any folder; the right name in the wrong folder is not called the nearest of itself."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load_config("classification/configs/demos/van_b0_digits.py")
    nearest = str(caught.value).split("nearest: ")[1].split(", ")
    assert Path(nearest[0]).samefile(DEMO) and all(Path(name).is_file() for name in nearest)


@pytest.mark.parametrize("value", ["Van_B2", "VAN_B2", "vanb2"])
def test_the_nearest_names_do_not_depend_on_case(value):
    with pytest.raises(UserError, match=r"unknown arch.*(nearest|allowed): van_b2\b"):
        load_config(DEMO, [f"model.backbone.arch={value}"])


@pytest.mark.parametrize("option", ["model=None", "model.data_preprocessor=None"])
def test_a_model_may_be_taken_out(option):
    load_config(DEMO, [option])


def test_a_model_without_its_backbone_is_one_line():
    with pytest.raises(UserError, match="the model has no backbone of the types"):
        load_config(DEMO, ["model.backbone=None"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(", "cannot be read: SyntaxError"),
        ("_base_ = ['absent.py']", "cannot be read"),
        ("x = 1 / 0", "cannot be read: ZeroDivisionError"),
        ("x = 1", "names no task.*classification, detection, segmentation"),
    ],
)
def test_a_broken_config_is_one_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("\n\nclass Half(None): pass", "TypeError: NoneType takes no arguments"),
    ],
)
def test_an_import_of_a_config_that_fails_is_named_with_its_line(tmp_path, monkeypatch, code, message):
    (tmp_path / "half_installed.py").write_text(code)
    (tmp_path / "uses_it.py").write_text("custom_imports = dict(imports=['half_installed'])\n")
    monkeypatch.syspath_prepend(tmp_path)
    place = f"{tmp_path / 'half_installed.py'}, line {code.count(chr(10)) + 1}"
    with pytest.raises(UserError, match="cannot be read: " + re.escape(f"{message} ({place})") + "$"):
        load_config(tmp_path / "uses_it.py")


def test_data_root_moves_every_path_that_lies_in_it(tmp_path):
    path = tmp_path / "mm_style.py"
    path.write_text(
        "custom_imports = dict(imports=['classification'])\n"
        "data_root = 'data/set/'\n"
        "val_evaluator = dict(ann_file=data_root + 'val.json')\n"
        "train_dataloader = dict(dataset=dict(data_root=data_root, also=['data/set/a', 'data/setter/b', 7]))\n"
        "val_dataloader = dict(dataset=dict(data_root='elsewhere/'))\n"
    )
    cfg = load_config(path, ["data_root=/new place"])
    assert cfg.data_root == "/new place"
    assert cfg.val_evaluator.ann_file == "/new place/val.json"
    assert cfg.train_dataloader.dataset.data_root == "/new place"
    assert cfg.train_dataloader.dataset.also == ["/new place/a", "data/setter/b", 7]
    assert cfg.val_dataloader.dataset.data_root == "elsewhere/"


def test_data_root_reaches_data_sets_without_their_own():
    cfg = load_config(DEMO, ["data_root=/new"])
    assert {cfg[f"{split}_dataloader"].dataset.data_root for split in ("train", "val", "test")} == {"/new"}


class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError("image cannot be read: cut.png")


def raise_user_error():
    raise UserError("unknown arch 'van_b9';\nallowed: van_b0")


def raise_chained():
    try:
        raise_user_error()
    except UserError as error:
        raise TypeError("class VAN in registry: ...") from error


def raise_in_worker():
    list(DataLoader(Failing(), num_workers=1))


@pytest.mark.parametrize(
    ("main", "line"),
    [
        (raise_user_error, "error: unknown arch 'van_b9'; allowed: van_b0\n"),
        (raise_chained, "error: unknown arch 'van_b9'; allowed: van_b0\n"),
        (raise_in_worker, "error: image cannot be read: cut.png\n"),
    ],
)
def test_a_user_error_is_one_line_and_status_2(main, line, capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == line


def raise_while_handling():
    try:
        raise_user_error()
    except UserError:
        {}["absent"]


def test_a_fault_of_ours_is_not_taken_for_the_users():
    """Not even where it happens while a user's error is dealt with."""
    with pytest.raises(KeyError):
        run_tool(raise_while_handling)


def test_other_endings():
    for main, status in ((lambda: None, None), (lambda: 1, 1), (interrupt, 130)):
        with pytest.raises(SystemExit) as ended:
            run_tool(main)
        assert ended.value.code == status
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)


def interrupt():
    raise KeyboardInterrupt


def test_process_0_speaks_first(monkeypatch, capsys):
    """What all processes of a launch find wrong is said once: the launcher ends the others while they wait."""
    waited = []
    monkeypatch.setattr(cli.time, "sleep", waited.append)
    for rank, expected in (("0", []), ("1", [cli.HEAD_START])):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit):
            run_tool(raise_user_error)
        assert waited == expected and capsys.readouterr().err.startswith("error: ")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    assert output_folder(tmp_path / "new/one").is_dir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/inside"):
        with pytest.raises(UserError, match=f"--out {path}: .*; allowed: a folder that can be written"):
            output_folder(path)


def test_a_wrong_argument_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        Parser(prog="train.py").parse_args(["--unknown"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("train", ["configs/van_b0_digit.py"], "no such config: configs/van_b0_digit.py; nearest:"),
        ("train", [str(DEMO), "--cfg-options", "model.backbone.arch"], "bad option"),
        ("train", [str(DEMO), "--cfg-options", "data_root=nowhere"], "no data folder nowhere/train"),
        ("test", [str(DEMO), "absent.pth"], "no such checkpoint file: absent.pth"),
        ("test", [str(MASKS), "absent.pth", "--tta", "--cfg-options", "tta_model=None"], "has no tta_model"),
    ],
)
def test_the_tools_end_with_one_line(tool, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{tool}.py", *arguments])
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "tool"}
    exec(compile((REPOSITORY / f"tools/{tool}.py").read_text(), tool, "exec"), namespace)
    with pytest.raises(SystemExit) as ended:
        run_tool(namespace["main"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_notes_are_ours_alone(tmp_path, capsys):
    """Other packages' warnings go to the log, also where this project's code is what they point at."""
    with open(tmp_path / "log", "w") as log, library_warnings_to(log):
        warnings.warn("of another package", UserWarning, stacklevel=1)
        warnings.warn("of this project", Notice, stacklevel=1)
    assert capsys.readouterr().err == "note: of this project\n"
    assert "of another package" in (tmp_path / "log").read_text()
