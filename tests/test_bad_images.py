"""An image that is absent, cut off or no image at all ends a training with one line that names it."""

import importlib
import os
import pickle

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from backbones import UserError
from backbones.images import read_image, upright_size
from backbones.plain_files import check_image

KINDS = ["absent.jpg", "text.jpg", "empty.png", "cut.jpg", "cut.png"]


@pytest.fixture
def files(tmp_path):
    noise = Image.effect_noise((200, 150), 80).convert("RGB")
    for suffix in ("jpg", "png", "bmp"):
        noise.save(tmp_path / f"whole.{suffix}")
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) * 2 // 3])
        (tmp_path / f"longer.{suffix}").write_bytes(content + b"record of a camera")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").touch()
    return tmp_path


@pytest.mark.parametrize("name", [*KINDS, "cut.bmp"])
def test_bad_files_are_named(files, name):
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        check_image(files / name)


@pytest.mark.parametrize("name", ["whole.jpg", "whole.png", "whole.bmp", "longer.jpg", "longer.png"])
def test_whole_files_pass(files, name):
    check_image(files / name)


@pytest.mark.parametrize(("task", "scope"), [("detection", "mmdet"), ("segmentation", "mmseg")])
def test_the_loader_of_both_dense_tasks_names_them(files, task, scope):
    importlib.import_module(task)
    registry = importlib.import_module(f"{scope}.registry").TRANSFORMS
    init_default_scope(scope)
    loader = registry.build(dict(type="LoadImageFromFile"))
    assert loader(dict(img_path=str(files / "whole.jpg")))["img"].shape == (150, 200, 3)
    for name in KINDS:
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            loader(dict(img_path=str(files / name)))


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(("task", "scope"), [("detection", "mmdet"), ("segmentation", "mmseg")])
def test_what_has_no_end_is_no_image(tmp_path, task, scope, kind):
    """A reader would wait for a pipe's other end, and read a device until the memory is full."""
    importlib.import_module(task)
    loader = importlib.import_module(f"{scope}.registry").TRANSFORMS.build(dict(type="LoadImageFromFile"))
    path = tmp_path / "x.jpg"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    for read in (check_image, read_image, upright_size, lambda path: loader(dict(img_path=str(path)))):
        with pytest.raises(UserError, match=r"no image but a pipe or a device: .*x\.jpg"):
            read(path)


@pytest.mark.parametrize(("task", "scope"), [("detection", "mmdet"), ("segmentation", "mmseg")])
def test_damaged_exif_data_turn_no_image(tmp_path, task, scope):
    """OpenCV finds an orientation where Pillow finds none."""
    importlib.import_module(task)
    loader = importlib.import_module(f"{scope}.registry").TRANSFORMS.build(dict(type="LoadImageFromFile"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((48, 40), 80).convert("RGB").save(tmp_path / "x.jpg", exif=exif)
    damaged = (tmp_path / "x.jpg").read_bytes().replace(b"Exif\0\0", b"Exi\xe6\0\0")
    (tmp_path / "x.jpg").write_bytes(damaged)
    pixels = loader(dict(img_path=str(tmp_path / "x.jpg")))["img"][..., ::-1]
    assert np.array_equal(pixels, np.asarray(read_image(tmp_path / "x.jpg")))


@pytest.mark.parametrize(("task", "scope"), [("detection", "mmdet"), ("segmentation", "mmseg")])
def test_the_loader_reaches_spawned_workers(task, scope):
    """Data loader workers that are spawned, not forked, get it pickled."""
    importlib.import_module(task)
    registry = importlib.import_module(f"{scope}.registry").TRANSFORMS
    init_default_scope(scope)
    pickle.loads(pickle.dumps(registry.build(dict(type="LoadImageFromFile"))))
