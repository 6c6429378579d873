"""Files that are no images, though they are named so: named and skipped, in every tool, without waiting for them."""

import os
import socket
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import run
from PIL import Image
from readers import PICTURES, checkpoint_of

from backbones import UserError
from backbones.image_files import images_below, list_images
from backbones.images import read_image, upright_size
from backbones.reading import READING
from classification.data.folder import class_folders, list_samples
from segmentation.mask_files import read_mask
from segmentation.pairs import lone_masks, matched_files
from ziggurat.engine.cli import Parser

COLOUR = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def bomb(path, bits=8, colours=2):
    """A whole PNG file of 68 bytes that declares 400 megapixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20000, 20000, bits, colours, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


# Name -> how it is made, and what is said of it.
ODD = {
    "bomb.png": (bomb, "image has too many pixels"),
    "pipe.jpg": (os.mkfifo, "no image but a pipe or a device"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "no image but a pipe or a device"),
    "itself.jpg": (lambda path: path.symlink_to(path.name), "no image but a link that leads to itself"),
    "nowhere.jpg": (lambda path: path.symlink_to("absent"), "no such image"),
    "empty.png": (lambda path: path.touch(), "image is empty"),
    "text.webp": (lambda path: path.write_text("no image"), "not an image that can be read"),
    "page.eps.jpg": (lambda path: Image.fromarray(COLOUR).save(path, "EPS"), "not an image that can be read"),
}


def listen(path):
    where = Path.cwd()
    os.chdir(path.parent)  # an address of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(where)


ODD["socket.jpg"] = (listen, "no image but a pipe or a device")
HIDDEN = (".hidden.jpg", "@eaDir/thumb.jpg", "__MACOSX/._a.jpg", ".trash/a.jpg", "Thumbs.db", ".DS_Store")


@pytest.fixture
def folder(tmp_path):
    """Two images, one of them in a folder with an image's name, and all that is none."""
    root = tmp_path / "photos"
    (root / "a folder.jpg").mkdir(parents=True)
    for path in (root / "good.png", root / "a folder.jpg" / "inside.PNG"):
        Image.fromarray(COLOUR).save(path)
    for name, (make, _) in ODD.items():
        make(root / name)
    for name in HIDDEN:
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(COLOUR).save(root / name, "JPEG")
    (root / "around").symlink_to(root)
    return root


@pytest.mark.parametrize("name", ODD)
def test_every_reader_refuses_them_in_one_line(name, tmp_path):
    make, words = ODD[name]
    make(tmp_path / name)
    for key, read in {**PICTURES, "size": upright_size}.items():
        if key == "bytes":
            continue
        with pytest.raises(UserError, match=words) as error:
            read(tmp_path / name, READING)
        assert name in str(error.value) and "\n" not in str(error.value), key


def test_a_folder_with_an_images_name_is_no_image(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    for key, read in {**PICTURES, "size": upright_size}.items():
        if key != "bytes":
            with pytest.raises(UserError, match=r"no image but a folder: .*a\.jpg"):
                read(tmp_path / "a.jpg", READING)


def test_a_folder_gives_its_images_alone(folder):
    found = [str(path.relative_to(folder)) for path in images_below(folder)]
    assert sorted(found) == sorted(["good.png", "a folder.jpg/inside.PNG", *ODD])
    assert list_images([folder / "good.png", folder / "a folder.jpg"]) == [
        folder / "good.png",
        folder / "a folder.jpg/inside.PNG",
    ]


def test_folders_of_thumbnails_are_no_classes(tmp_path):
    for name in ("cat", "dog", "@eaDir", "__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        Image.fromarray(COLOUR).save(tmp_path / name / "a.jpg")
    (tmp_path / "more").mkdir()
    Image.fromarray(COLOUR).save(tmp_path / "more/linked.jpg")
    (tmp_path / "cat/link").symlink_to(tmp_path / "more")
    (tmp_path / "more").rename(tmp_path / ".more")
    (tmp_path / "cat/link").unlink()
    (tmp_path / "cat/link").symlink_to(tmp_path / ".more")
    assert class_folders(tmp_path) == ["cat", "dog"]
    names = [Path(name).name for name, _ in list_samples(tmp_path, ["cat", "dog"])]
    assert sorted(names) == ["a.jpg", "a.jpg", "linked.jpg"]


def test_hidden_files_have_no_masks_and_linked_folders_are_followed(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        (tmp_path / f"other {kind}").mkdir()
        for name in ("a.png", "._a.png"):
            Image.fromarray(COLOUR[..., 0]).save(tmp_path / kind / name)
        Image.fromarray(COLOUR[..., 0]).save(tmp_path / f"other {kind}/b.png")
        (tmp_path / kind / "linked").symlink_to(tmp_path / f"other {kind}")
    (tmp_path / "images/@eaDir").mkdir()
    Image.fromarray(COLOUR).save(tmp_path / "images/@eaDir/a.jpg")
    (tmp_path / "images/c.jpg").mkdir()
    pairs = matched_files(tmp_path / "images", tmp_path / "masks")
    assert [image.relative_to(tmp_path / "images").as_posix() for image, _ in pairs] == ["a.png", "linked/b.png"]
    assert lone_masks(pairs, tmp_path / "masks") == []


def test_masks_of_too_many_pixels_are_named(tmp_path):
    bomb(tmp_path / "mask.png", colours=0)
    with pytest.raises(UserError, match=r"mask has too many pixels: .*mask\.png"):
        read_mask(tmp_path / "mask.png", 3, True)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=r"no mask but a pipe or a device: .*pipe\.png"):
        read_mask(tmp_path / "pipe.png", 3, True)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_files_that_may_not_be_read_are_named(error, tmp_path, monkeypatch):
    from backbones import images

    def refused(path):
        raise error

    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "PatientFile", refused)
    with pytest.raises(
        UserError, match=r"no permission to read the image .*a\.png|cannot be read to its end: .*a\.png"
    ):
        read_image(tmp_path / "a.png")


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    def refused(*args):
        raise PermissionError(13, "Permission denied", str(tmp_path / "locked"))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match=r"folder .*locked cannot be read \(Permission denied\)"):
        images_below(tmp_path)


def test_predict_does_the_good_images_and_names_the_others(folder, tmp_path, monkeypatch, capsys):
    import predict

    file = checkpoint_of("classification", tmp_path)
    status, out, err = run(predict, [file, folder, "--out", tmp_path / "out", "--device", "cpu"], monkeypatch, capsys)
    assert status == 1 and f"2 of {2 + len(ODD)} images" in out
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["good.json", "inside.json"]
    lines = [line for line in err.splitlines() if line.startswith("skipped: ")]
    for name, (_, words) in ODD.items():
        assert sum(name in line and words in line for line in lines) == 2, name  # when met, and at the end


def test_features_do_the_good_images_and_name_the_others(folder, tmp_path, monkeypatch, capsys):
    import extract_features

    argv = ["van_b0", folder, "--out", tmp_path / "out", "--device", "cpu", "--reading", "alpha=[1,2,3]"]
    status, out, err = run(extract_features, argv, monkeypatch, capsys)
    assert status == 1 and f"2 of {2 + len(ODD)} images" in out
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.npz")) == ["good", "inside"]
    assert all(any(name in line and words in line for line in err.splitlines()) for name, (_, words) in ODD.items())
    assert '"alpha": [' in (tmp_path / "out/features.json").read_text()


@pytest.mark.parametrize("typed", ["~/x", "/a/~", "data_root=~/x", "--out=~/x", "a~/x", "x=~y", "~"])
def test_the_home_folder_is_meant_where_the_shell_leaves_its_sign(typed, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = Parser()
    parser.add_argument("--out")
    parser.add_argument("--cfg-options", nargs="+")
    parser.add_argument("rest", nargs="*")
    monkeypatch.setattr(sys, "argv", ["tool", typed, "--cfg-options", "a=~/b"])
    args = parser.parse_args()
    meant = {"~/x": "/home/me/x", "data_root=~/x": "data_root=/home/me/x", "~": "/home/me"}
    if typed == "--out=~/x":
        assert args.out == "/home/me/x"
    else:
        assert args.rest == [meant.get(typed, typed)]
    assert args.cfg_options == ["a=/home/me/b"]
