"""Every format that is read gives the same pixels in every task, whatever its colours, its frames and its flaws."""

import io
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from readers import PICTURES

from backbones import UserError, images
from backbones.errors import Notice
from backbones.image_files import images_below, list_images
from backbones.images import SUFFIXES, read_image, upright_size
from backbones.plain_files import is_plain
from backbones.reading import READING

RNG = np.random.default_rng(0)
COLOUR = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((96, 72)))
OTHER = np.ascontiguousarray(COLOUR[::-1])
GREY = COLOUR[..., 0]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(images, "FRAMES_SAID", bytearray(1))


def save(path, pixels=COLOUR, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def inks_to_rgb(inks):
    """The plain formula of CMYK, 0 being no ink."""
    paper = (255 - inks[..., 3:]).astype(np.float64)
    return np.rint(paper - paper * inks[..., :3] / 255)


def ycck(folder):
    """A JPEG of four channels whose marker says that the first three are Y, Cb, Cr."""
    content = save(folder / "inks.jpg", mode="CMYK", quality=95).read_bytes()
    at = content.index(b"Adobe") + 11
    assert content[at - 11 : at - 6] == b"Adobe"
    (folder / "ycck.jpg").write_bytes(content[:at] + b"\x02" + content[at + 1 :])
    return folder / "ycck.jpg"


def kinds(folder):
    """(file, its pixels in RGB): by Pillow's own conversion where there is no other reference."""
    grey = GREY[..., None].repeat(3, 2)
    yield save(folder / "grey.jpg", GREY, quality=100, subsampling=0), None
    yield save(folder / "grey_alpha.png", np.dstack([GREY, GREY])), grey
    yield save(folder / "alpha.tif", np.dstack([COLOUR, GREY])), COLOUR
    yield save(folder / "bit.tif", GREY > 99), np.where(grey > 99, 255, 0)
    palette = Image.fromarray(COLOUR).quantize(64)
    colours = np.asarray(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)]
    yield save(folder / "palette.png", palette), colours
    yield save(folder / "palette.bmp", palette), colours
    yield save(folder / "inks.tif", mode="CMYK"), COLOUR
    inks = np.dstack([COLOUR, GREY // 2])
    yield save(folder / "black.tif", Image.fromarray(inks, "CMYK")), inks_to_rgb(inks)
    yield save(folder / "inks.jpg", mode="CMYK", quality=95), None
    yield ycck(folder), None
    yield save(folder / "progressive.jpg", progressive=True), None
    yield save(folder / "whole.webp", lossless=True), COLOUR
    yield save(folder / "one.gif", palette), colours
    yield save(folder / "a.avif", quality=90), None
    yield save(folder / "a.jp2"), COLOUR
    yield save(folder / "a.ppm"), COLOUR
    yield save(folder / "a.pgm", GREY), grey
    yield save(folder / "packed.tif", compression="tiff_lzw"), COLOUR
    save(folder / "phone.mpo", save_all=True, append_images=[Image.fromarray(OTHER)])
    yield (folder / "phone.mpo").rename(folder / "phone.jpg"), None


@pytest.mark.filterwarnings("error::backbones.errors.Notice")
def test_every_kind_gives_the_same_pixels_everywhere(tmp_path):
    for path, wanted in kinds(tmp_path):
        if wanted is None:
            with Image.open(path) as image:
                wanted = np.asarray(image.convert("RGB"))
        for name, read in PICTURES.items():
            rounding = 1 if path.name == "black.tif" else 0  # of the formula
            assert np.abs(read(path, READING) - wanted.astype(np.float64)).max() <= rounding, (path.name, name)
        assert upright_size(path) == (96, 72), path.name


def moving(folder, kind):
    """A file of three frames or pages, the first being COLOUR."""
    options = dict(save_all=True, append_images=[Image.fromarray(OTHER), Image.fromarray(COLOUR // 2)])
    if kind == "webp":
        options |= dict(lossless=True)
    if kind == "gif":
        frames = [Image.fromarray(pixels).quantize(32) for pixels in (COLOUR, OTHER)]
        frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
        return folder / "moving.gif", np.asarray(frames[0].convert("RGB"))
    path = save(folder / f"moving.{kind}", **({**options, "format": "PNG"} if kind == "apng" else options))
    return path, None if kind == "avif" else COLOUR


@pytest.mark.parametrize("kind", ["gif", "webp", "apng", "tif", "avif"])
def test_of_several_frames_the_first_is_taken_and_that_is_said_once(kind, tmp_path):
    path, wanted = moving(tmp_path, kind)
    if wanted is None:
        with Image.open(path) as image:
            wanted = np.asarray(image.convert("RGB"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name, read in PICTURES.items():
            assert np.array_equal(read(path, READING), wanted), name
    notes = [str(note.message) for note in said if note.category is Notice]
    assert len(notes) == 1 and f"moving.{kind} has" in notes[0] and "frames or pages; of such files" in notes[0]


def test_workers_of_a_loader_say_it_once_among_them(tmp_path, capfd):
    """The processes share a byte, since each has its own list of warnings."""
    import mmap

    import torch

    images.FRAMES_SAID = mmap.mmap(-1, 1)
    path, _ = moving(tmp_path, "tif")

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                read_image(path)
            return sum(note.category is Notice for note in said)

    assert sum(torch.utils.data.DataLoader(Files(), None, num_workers=2)) == 1
    assert images.FRAMES_SAID[0] == 1


def test_flawed_jpegs_are_read_as_pillow_reads_them_and_cut_off_ones_refused(tmp_path):
    """Bytes between a file's parts do not matter; damaged pixels are Pillow's everywhere; an early end is an end."""
    content = save(tmp_path / "whole.jpg", quality=90).read_bytes()
    scan = content.index(b"\xff\xda") + 40
    flawed = {
        "longer": content + b"a camera's record",
        "stuffed": content[:-2] + b"\x00\x00" + content[-2:],
        "bent": content[:scan] + bytes([content[scan] ^ 1]) + content[scan + 1 :],
        "comment": content[:2] + b"\xff\xfe\x00\x06abcd" + content[2:],
    }
    for word, data in flawed.items():
        (tmp_path / f"{word}.jpg").write_bytes(data)
        with Image.open(io.BytesIO(data)) as image:
            wanted = np.asarray(image.convert("RGB"))
        for name, read in PICTURES.items():
            assert np.array_equal(read(tmp_path / f"{word}.jpg", READING), wanted), (word, name)
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    for read in PICTURES.values():
        with pytest.raises(UserError, match=r"image cannot be read to its end"):
            read(tmp_path / "cut.jpg", READING)


def test_moving_pngs_are_not_left_to_the_faster_decoder(tmp_path):
    path, _ = moving(tmp_path, "apng")
    assert not is_plain(path, path.read_bytes())
    assert is_plain("a.png", save(tmp_path / "a.png").read_bytes())


def test_suffixes_are_found_in_folders_as_they_are_when_named(tmp_path):
    """Every suffix of a format that is read, in any case, in every list of images of a folder."""
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix}").touch()
        (tmp_path / f"b{suffix.upper()}").touch()
    (tmp_path / "c.txt").touch()
    (tmp_path / "d.npy").touch()
    found = images_below(tmp_path)
    assert found == list_images([tmp_path]) and len(found) == 2 * len(SUFFIXES)
    expected = {".jfif", ".jpe", ".gif", ".avif", ".jp2", ".heic", ".apng", ".ppm", ".mpo", ".tif", ".webp"}
    assert expected <= {path.suffix.lower() for path in found}


def heic(folder, brand=b"heic"):
    (folder / "a.heic").write_bytes(b"\x00\x00\x00\x18ftyp" + brand + b"\x00" * 40)
    return folder / "a.heic"


def test_heic_names_the_package_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for read in PICTURES.values():
        with pytest.raises(UserError, match=r"HEIC, which pillow-heif reads: .*; pip install pillow-heif"):
            read(heic(tmp_path), READING)


def test_heic_is_read_where_its_package_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(COLOUR)).save(tmp_path / "a.heic", quality=-1, chroma=444)
    seen = [read(tmp_path / "a.heic", READING) for read in PICTURES.values()]
    assert all(np.array_equal(one, seen[0]) for one in seen)
    assert np.abs(seen[0].astype(int) - COLOUR).mean() < 3


def test_opencv_alone_would_read_some_kinds_otherwise(tmp_path):
    """Why other files than plain ones are Pillow's: one of the references of this file, which must be able to fail."""
    path = save(tmp_path / "inks.jpg", mode="CMYK", quality=95)
    assert not np.array_equal(cv2.imread(str(path))[..., ::-1], np.asarray(read_image(path)))
    assert Path(path).suffix in SUFFIXES
