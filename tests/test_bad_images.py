"""An image that is absent, cut off or no image at all ends a training with one line that names it."""

import importlib
import pickle

import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from backbones import UserError
from backbones.images import check_image

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


@pytest.mark.parametrize(("task", "scope"), [("detection", "mmdet"), ("segmentation", "mmseg")])
def test_the_loader_reaches_spawned_workers(task, scope):
    """Data loader workers that are spawned, not forked, get it pickled."""
    importlib.import_module(task)
    registry = importlib.import_module(f"{scope}.registry").TRANSFORMS
    init_default_scope(scope)
    pickle.loads(pickle.dumps(registry.build(dict(type="LoadImageFromFile"))))
