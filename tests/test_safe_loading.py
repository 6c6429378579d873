"""Whatever file a config names, no library that a run uses takes code from the file.

Each attack is a pickle whose reading makes a folder. A test shows that mmengine alone runs it.
"""

import os
import pickle
import subprocess
import sys

import mmcv
import numpy
import pytest
import torch
import yaml
from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.runner import CheckpointLoader
from mmseg.utils import datafrombytes
from PIL import EpsImagePlugin, Image

from backbones import UserError, create_backbone
from backbones.images import FORMATS as FORMATS_READ
from backbones.images import read_image, upright_size
from backbones.plain_files import check_image
from segmentation.data import read_mask
from ziggurat.engine import safe_loading
from ziggurat.engine.cli import run_tool
from ziggurat.engine.config import load_config

DETECTOR = "detection/configs/demo/mask_rcnn_van_b0_digits.py"
SEGMENTER = "segmentation/configs/demo/semantic_fpn_van_b0_digits.py"
PLACES = {
    "a detector": (DETECTOR, "model"),
    "its backbone": (DETECTOR, "model.backbone"),
    "its neck": (DETECTOR, "model.neck"),
    "its head": (DETECTOR, "model.rpn_head"),
    "its inner head": (DETECTOR, "model.roi_head.bbox_head"),
    "a segmenter": (SEGMENTER, "model"),
    "its decode head": (SEGMENTER, "model.decode_head"),
}


class Code:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def as_zip(content, path):
    torch.save(content, path)


def as_old_format(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_raw_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
FORMATS = {"zip": as_zip, "old": as_old_format, "raw": as_raw_pickle}


def evil_files(folder):
    """A checkpoint of each format that makes the folder ``ran`` beside itself when its pickle is obeyed."""
    files = []
    for name, write in FORMATS.items():
        tensors = {} if name == "raw" else {"a": torch.ones(1)}
        files.append(folder / f"evil.{name}.pth")
        write({"state_dict": tensors, "meta": Code(folder / "ran")}, files[-1])
    return files


def refused(act, evil):
    with pytest.raises(UserError, match=r"refused: .*(evil\.\w+|\.pkl file)") as caught:
        act()
    assert "\n" not in str(caught.value) and not (evil.parent / "ran").exists()


@pytest.mark.parametrize("place", PLACES)
def test_pretrained_weights_of_any_part_run_no_code(place, tmp_path):
    path, part = PLACES[place]
    init, files = dict(type="Pretrained", checkpoint=""), evil_files(tmp_path)
    if part == "model.backbone":  # mm's own network, which loads by mm's own way
        cfg = load_config(path)
        cfg.model.backbone = dict(type="mmdet.ResNet", depth=18, init_cfg=init)
        cfg.model.neck.in_channels = [64, 128, 256, 512]
    else:
        cfg = load_config(path, {f"{part}.init_cfg": init})
    with MODELS.switch_scope_and_registry("mmdet" if path == DETECTOR else "mmseg"):
        model = MODELS.build(cfg.model)
    (owner,) = (module for module in model.modules() if getattr(module, "init_cfg", None) == init)
    for file in files:
        owner.init_cfg["checkpoint"] = str(file)
        refused(model.init_weights, file)


def test_mmengine_alone_runs_the_code(tmp_path):
    """Otherwise the tests here would pass on harmless files."""
    codes = []
    for file in evil_files(tmp_path):
        load = f"CheckpointLoader.load_checkpoint({str(file)!r}, logger=None)"
        code = f"import os, sys; from mmengine.runner import CheckpointLoader\ntry: {load}\nexcept Exception: pass\n"
        codes.append(code + f"os.rmdir({str(tmp_path / 'ran')!r})\n")
    done = subprocess.run([sys.executable, "-c", "".join(codes)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_scheme_is_safe(tmp_path, monkeypatch):
    """Each address leads to the file, as if it had been downloaded."""
    evil = evil_files(tmp_path)[0]
    monkeypatch.setattr(safe_loading, "locate", lambda arch, source: evil)
    monkeypatch.setattr(fileio, "get", lambda filename: evil.read_bytes())
    names = ("http://a/b.pth", "https://a/b.pth", "torchvision://resnet18", "modelzoo://resnet18", "mmcls://vgg16")
    names += ("open-mmlab://vgg16_caffe", "openmmlab://resnet50_caffe", str(evil))
    for name in names:
        refused(lambda name=name: CheckpointLoader.load_checkpoint(name, logger=None), evil)
    for name in ("s3://bucket/evil.pth", "petrel://bucket/evil.pth", "cluster:s3://bucket/evil.pth"):
        refused(lambda name=name: CheckpointLoader.load_checkpoint(name, logger=None), evil)
    with pytest.raises(UserError, match="pavi://"):
        CheckpointLoader.load_checkpoint("pavi://evil.pth", logger=None)
    ours = {loader.__module__ for loader in CheckpointLoader._schemes.values()}
    assert ours == {"ziggurat.engine.safe_loading"}, "a scheme that mmengine has, and this project does not know"


def test_an_unknown_name_is_one_line():
    with pytest.raises(UserError, match=r"unknown weights of torchvision:// 'resnet51'; nearest: resnet50"):
        CheckpointLoader.load_checkpoint("torchvision://resnet51", logger=None)


def test_good_files_load_as_before(tmp_path):
    state = create_backbone("van_b0").state_dict()
    torch.save({"state_dict": {f"backbone.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
    content = CheckpointLoader.load_checkpoint(str(tmp_path / "w.pth"), "cpu", logger=None)
    assert all(torch.equal(content["state_dict"][f"backbone.{name}"], state[name]) for name in state)


def test_no_config_inside_a_checkpoint_is_run(tmp_path):
    """mmengine's own Runner evaluates ``meta["config"]`` when it resumes."""
    torch.save({"state_dict": {}, "meta": {"config": f"import os; os.mkdir({str(tmp_path / 'ran')!r})", "epoch": 1}},
               tmp_path / "w.pth")  # fmt: skip
    content = CheckpointLoader.load_checkpoint(str(tmp_path / "w.pth"), logger=None)
    assert content["meta"] == {"epoch": 1}


def test_mm_data_sets_of_other_formats_run_no_code(tmp_path):
    content = pickle.dumps(Code(tmp_path / "ran"))
    with pytest.raises(UserError, match="mkdir"):
        datafrombytes(content, "pickle")
    assert datafrombytes(pickle.dumps([1, 2]), "pickle") == [1, 2]
    numpy.save(tmp_path / "tree.npy", numpy.array([Code(tmp_path / "ran")]), allow_pickle=True)
    challenge = object.__new__(DATASETS.get("mmdet.OpenImagesChallengeDataset"))
    challenge.backend_args = None
    with pytest.raises(UserError, match=r"tree\.npy: .*allowed: an array of numbers"):
        challenge._get_relation_matrix(str(tmp_path / "tree.npy"))
    numpy.save(tmp_path / "tree.npy", numpy.eye(3))
    assert challenge._get_relation_matrix(str(tmp_path / "tree.npy")).shape == (2, 2)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["pkl", "pickle"])
def test_pickled_data_run_no_code(tmp_path, suffix):
    path = tmp_path / f"evil.{suffix}"
    path.write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    refused(lambda: fileio.load(str(path)), path)
    path.write_bytes(pickle.dumps([1])[:-2])
    with pytest.raises(UserError, match="damaged"):
        fileio.load(str(path))
    good = {"boxes": [[1.5, 2]], "names": ("a", None), "ids": {3}}
    fileio.dump(good, str(path))
    assert fileio.load(str(path)) == good


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text(f"model: !!python/object/apply:os.mkdir [{str(tmp_path / 'ran')!r}]\n")
    with pytest.raises(UserError, match=r"evil\.yaml cannot be read: ConstructorError"):
        load_config(path)
    with pytest.raises(yaml.constructor.ConstructorError):
        fileio.load(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_config_dumped_as_yaml_keeps_its_tuples(tmp_path):
    cfg = Config(dict(model=dict(size=(3, 4), steps=[1, 2])))
    cfg.dump(tmp_path / "dumped.yaml")
    assert Config.fromfile(tmp_path / "dumped.yaml").model.to_dict() == dict(size=(3, 4), steps=[1, 2])


def test_inside_a_tool_no_library_reads_more_than_weights(tmp_path, monkeypatch):
    """timm and torchvision have loaders of their own."""

    def load():
        for file in evil_files(tmp_path):
            with pytest.raises(pickle.UnpicklingError):
                torch.load(file, weights_only=False)

    with pytest.raises(SystemExit) as stop:
        run_tool(load)
    assert not stop.value.code and not (tmp_path / "ran").exists() and FORCE not in os.environ


@pytest.fixture
def postscript(tmp_path, monkeypatch):
    """An EPS file named as a PNG, and a Ghostscript that makes the folder ``ran``."""
    script = tmp_path / "bin/gs"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\nmkdir -p '{tmp_path / 'ran'}'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    )
    return tmp_path / "x.png"


def test_pillow_alone_starts_ghostscript(postscript):
    with pytest.raises((OSError, subprocess.CalledProcessError)), Image.open(postscript) as image:
        image.load()
    assert (postscript.parent / "ran").exists()


def test_no_image_starts_a_program(postscript, monkeypatch):
    def transformed(**arguments):
        return TRANSFORMS.build(dict(type="mmseg.LoadImageFromFile", **arguments))({"img_path": str(postscript)})

    readers = [
        read_image,
        check_image,
        upright_size,
        lambda path: read_mask(path, 2, False),
        lambda path: transformed(),
    ]
    readers += [lambda path: transformed(color_type="unchanged"), lambda path: transformed(imdecode_backend="pillow")]
    for read in readers:
        with pytest.raises(UserError, match=r"x\.png"):
            read(postscript)
    monkeypatch.undo()
    with pytest.raises(OSError, match="Ghostscript"):  # mm's own steps, which take any format
        mmcv.imfrombytes(postscript.read_bytes(), backend="pillow")
    assert not (postscript.parent / "ran").exists()


@pytest.mark.parametrize("kind", FORMATS_READ)
def test_usual_formats_are_read(kind, tmp_path):
    image = Image.effect_noise((40, 50), 40).convert("RGB")
    image.save(tmp_path / "a.png", kind)
    assert read_image(tmp_path / "a.png").size == (40, 50)
