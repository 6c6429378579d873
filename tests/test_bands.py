"""Images of any number of channels: files, the rule of their axes, and what is refused."""

import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from readers import READERS

from backbones import UserError
from backbones.images import read_image, read_pixels, upright_size
from backbones.reading import Reading

RNG = np.random.default_rng(0)
FIVE = RNG.integers(0, 65536, (40, 52, 5), dtype=np.uint16)
READING = Reading(channels=5)


def band_files(folder):
    """The same five bands in every form."""
    planes = np.moveaxis(FIVE, 2, 0)
    tifffile.imwrite(folder / "pixels.tif", FIVE, planarconfig="contig", photometric="minisblack")
    tifffile.imwrite(folder / "planes.tif", planes, planarconfig="separate", photometric="minisblack")
    tifffile.imwrite(folder / "packed.tif", FIVE, planarconfig="contig", photometric="rgb", compression="zlib")
    tifffile.imwrite(folder / "big.tif", FIVE, planarconfig="contig", photometric="minisblack", bigtiff=True)
    pages = [Image.fromarray(plane) for plane in planes]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    np.save(folder / "pixels.npy", FIVE)
    np.save(folder / "planes.npy", planes)
    np.save(folder / "order.npy", np.asfortranarray(FIVE.astype(">u2")))
    np.save(folder / "float.npy", (FIVE >> 8) / np.float32(255))
    np.savez_compressed(folder / "packed.npz", anything=planes)
    return sorted(folder.iterdir())


def test_every_form_gives_the_same_bands_everywhere(tmp_path):
    wanted = (FIVE >> 8).astype(np.uint8)
    for path in band_files(tmp_path):
        assert upright_size(path, READING) == (52, 40)
        for name, read in READERS.items():
            assert np.array_equal(read(path, READING), wanted), (path.name, name)
        assert np.array_equal(read_image(path, reading=READING), wanted[..., :3])


def test_a_range_holds_for_bands(tmp_path):
    values = RNG.integers(-100, 5000, (40, 52, 5)).astype(np.int16)
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=r"a\.npy: values of type int16, whose range is not known"):
        read_pixels(tmp_path / "a.npy", reading=READING)
    wanted = np.clip(np.rint(values / 4095 * 255), 0, 255).astype(np.uint8)
    assert np.array_equal(read_pixels(tmp_path / "a.npy", reading=Reading((0, 4095), channels=5)), wanted)


def test_the_last_axis_that_fits_holds_the_channels(tmp_path):
    """A file of (5, H, 5) has five rows: an image is never so small that this is a choice."""
    values = RNG.integers(0, 256, (5, 40, 5), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    assert np.array_equal(read_pixels(tmp_path / "a.npy", reading=READING), values)
    np.save(tmp_path / "grey.npy", values[0].repeat(10, 1))
    assert read_pixels(tmp_path / "grey.npy", reading=Reading(channels=1)).shape == (40, 50, 1)
    assert read_image(tmp_path / "grey.npy").size == (50, 40)


def test_a_tiff_is_turned_as_it_says(tmp_path):
    tag = [(274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", FIVE, planarconfig="contig", photometric="minisblack", extratags=tag)
    stored = (FIVE >> 8).astype(np.uint8)
    assert np.array_equal(read_pixels(tmp_path / "a.tif", reading=READING), np.rot90(stored, -1))
    assert upright_size(tmp_path / "a.tif", READING) == (40, 52)
    assert np.array_equal(read_pixels(tmp_path / "a.tif", reading=Reading(upright=False, channels=5)), stored)


def packed_by_lzw(path):
    """A file that says so. Its pixels are not asked for, since nothing here unpacks them."""
    tifffile.imwrite(path, FIVE, planarconfig="contig", photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(5)


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


BAD = {
    "other.npy": (lambda p: np.save(p, FIVE[..., :4]), r"shape \(40, 52, 4\); allowed: \(H, W, 5\).*in_chans=4"),
    "flat.npy": (lambda p: np.save(p, FIVE[0]), r"shape \(52, 5\); allowed"),
    "deep.npy": (lambda p: np.save(p, FIVE[None]), r"shape \(1, 40, 52, 5\)"),
    "object.npy": (lambda p: np.save(p, np.array([{}], object), allow_pickle=True), "holds Python's objects"),
    "text.npy": (lambda p: np.save(p, np.full((40, 52, 5), "a")), "allowed: uint8, uint16, floats"),
    "two.npz": (lambda p: np.savez(p, a=FIVE, b=FIVE), "holds 2 arrays; allowed: one"),
    "cut.npy": (lambda p: (np.save(p, FIVE), p.write_bytes(p.read_bytes()[:900])), "cannot be read to its end"),
    "cut.npz": (lambda p: (np.savez(p, FIVE), p.write_bytes(p.read_bytes()[:900])), "cannot be read to its end"),
    "word.npz": (lambda p: zipped(p, ["a.txt"]), "cannot be read to its end"),
    "huge.npy": (
        lambda p: p.write_bytes(
            b"\x93NUMPY\x01\x00\x56\x00"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (200000, 200000, 5)}".ljust(85)
            + b"\n"
        ),
        "too many pixels",
    ),
    "rgb.png": (
        lambda p: Image.new("RGB", (52, 40)).save(p),
        r"is an image of mode RGB; allowed: an array \(H, W, 5\)",
    ),
    "lzw.tif": (packed_by_lzw, "is compressed by LZW; pip install imagecodecs"),
    "three.tif": (lambda p: Image.new("RGB", (52, 40)).save(p), r"three\.tif has shape \(40, 52, 3\)"),
    "cut.tif": (
        lambda p: (tifffile.imwrite(p, FIVE, planarconfig="contig"), p.write_bytes(p.read_bytes()[:900])),
        "cannot be read to its end|too many|shape",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_named_in_one_line(name, tmp_path):
    make, words = BAD[name]
    make(tmp_path / name)
    for read in READERS.values():
        if read is READERS["bytes"]:
            continue
        with pytest.raises(UserError, match=words) as error:
            read(tmp_path / name, READING)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_a_picture_is_not_made_of_bands(tmp_path):
    for path in band_files(tmp_path):
        if path.name not in ("pages.tif",):  # whose first page is a picture
            with pytest.raises(UserError, match=r"shape .*\(H, W, 3\).*in_chans=5 takes 5 channels"):
                read_image(path)
