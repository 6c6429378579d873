"""One reader for every task.

The same file gives the same pixels in training, testing, prediction and features. 16-bit values and floats keep their
meaning. An unreadable file is one line that names the file.
"""

import importlib

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from backbones import FeatureExtractor, UserError
from backbones.images import read_image
from backbones.pixels import known_range
from backbones.plain_files import is_plain
from ziggurat.engine.cli import find_user_error

GREY = np.arange(256, dtype=np.uint8)[None].repeat(40, 0)  # every value of 8 bits, 40 x 256
RNG = np.random.default_rng(0)
COLOUR = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((96, 72)))
ORIENTATIONS = range(1, 9)


def write(folder, name, pixels=COLOUR, **options):
    path = folder / name
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.fixture(scope="module", params=["mmdet", "mmseg"])
def load(request):
    """The pixels that a dense task's pipeline gets, as RGB."""
    importlib.import_module({"mmdet": "detection", "mmseg": "segmentation"}[request.param])
    init_default_scope(request.param)
    registry = importlib.import_module(f"{request.param}.registry").TRANSFORMS

    def call(path, **options):
        loader = registry.build(dict(type="LoadImageFromFile", **options))
        found = loader(dict(img_path=str(path)))
        return None if found is None else found["img"][..., ::-1]

    return call


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    return FeatureExtractor("van_b0", out_indices=(0,))


def files(folder):
    """One file of every kind: (path, its pixels in 8-bit RGB)."""
    grey = GREY[..., None].repeat(3, 2)
    wide = GREY.astype(np.uint16) * 257
    yield write(folder, "grey8.png", GREY), grey
    yield write(folder, "grey16.png", wide), grey
    yield write(folder, "grey16.tif", wide), grey
    yield write(folder, "big_endian16.tif", Image.fromarray(wide.astype(">u2"))), grey
    yield write(folder, "float.tif", GREY.astype(np.float32) / 255), grey
    yield write(folder, "one_bit.png", Image.fromarray(GREY > 127)), np.where(grey > 127, 255, 0).astype(np.uint8)
    yield write(folder, "colour.png"), COLOUR
    yield write(folder, "colour.bmp"), COLOUR
    yield write(folder, "alpha.png", np.dstack([COLOUR, COLOUR[..., 0]])), COLOUR
    assert cv2.imwrite(str(folder / "colour16.png"), COLOUR[..., ::-1].astype(np.uint16) * 257)
    yield folder / "colour16.png", COLOUR
    palette = Image.fromarray(COLOUR).quantize(64)
    yield write(folder, "palette.png", palette), np.asarray(palette.convert("RGB"))


def test_every_task_sees_the_same_pixels(load, extractor, tmp_path):
    for path, wanted in files(tmp_path):
        seen = np.asarray(read_image(path))
        assert seen.dtype == np.uint8 and np.array_equal(seen, wanted), path.name
        assert np.array_equal(load(path), wanted), path.name
        assert torch.equal(extractor(path)[0], extractor(wanted)[0]), path.name


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(640, 427), (333, 481)])
def test_opencv_and_pillow_decode_a_jpeg_alike(subsampling, progressive, size, tmp_path):
    """The dense tasks' published recipes decoded with OpenCV, classification's with Pillow."""
    image = Image.fromarray(COLOUR).resize(size, Image.Resampling.BICUBIC)
    path = write(tmp_path, "a.jpg", image, subsampling=subsampling, progressive=progressive, quality=90)
    assert is_plain(path, path.read_bytes())
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], np.asarray(read_image(path)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_photographs_are_turned_upright_alike(load, suffix, orientation, tmp_path):
    options = dict(lossless=True) if suffix == "webp" else {}
    path = write(tmp_path, f"turned.{suffix}", exif=exif(orientation), **options)
    seen = np.asarray(read_image(path))
    assert seen.shape[:2] == (COLOUR.shape[:2] if orientation < 5 else COLOUR.shape[1::-1])
    assert np.array_equal(load(path), seen)


def test_plain_files_alone_are_left_to_the_faster_decoder(tmp_path):
    plain = {path.name for path, _ in files(tmp_path) if is_plain(path, path.read_bytes())}
    assert plain == {"grey8.png", "colour.png"}
    for orientation in ORIENTATIONS:
        path = write(tmp_path, "a.jpg", exif=exif(orientation))
        assert is_plain(path, path.read_bytes()) == (orientation == 1)
    assert not is_plain(path, path.read_bytes()[:-200])
    inks = write(tmp_path, "inks.jpg", Image.fromarray(COLOUR).convert("CMYK"))
    assert not is_plain(inks, inks.read_bytes())


UNREADABLE = {
    "beyond.tif": (lambda: GREY.astype(np.float32), "values from 0 to 255; allowed: floats 0 to 1"),
    "nan.tif": (lambda: np.full((40, 40), np.nan, np.float32), "allowed: floats 0 to 1"),
    "int32.tif": (lambda: GREY.astype(np.int32), "32-bit integers"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_values_without_a_known_range_are_refused(load, name, tmp_path):
    make, words = UNREADABLE[name]
    path = write(tmp_path, name, make())
    for read in (read_image, load):
        with pytest.raises(UserError, match=rf"{name}.*{words}") as error:
            read(path)
        assert "\n" not in str(error.value)
    assert load(path, ignore_empty=True) is None


def test_an_image_beyond_pillows_limit_is_named(load, extractor, tmp_path, monkeypatch):
    path = write(tmp_path, "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOUR.shape[0] * COLOUR.shape[1] // 2 - 1)
    for read in (read_image, load, extractor):
        with pytest.raises(UserError, match=r"too many pixels.*large\.png.*megapixels"):
            read(path)


def test_colour_floats_are_read_if_they_are_not_compressed_in_a_rare_way(load, tmp_path):
    """OpenCV's own choice of a compression for floats is SGI's, which loses digits."""
    path, floats = tmp_path / "colour_floats.tif", COLOUR[..., ::-1].astype(np.float32) / 255
    cv2.imwrite(str(path), floats)
    for read in (read_image, load):
        with pytest.raises(UserError, match=r"colour_floats\.tif is compressed by SGILOG; allowed: no compression"):
            read(path)
    cv2.imwrite(str(path), floats, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    for read in (read_image, load):
        assert np.array_equal(read(path), COLOUR)


def test_arrays_in_memory_are_taken_by_their_type(extractor):
    right = extractor(COLOUR)[0]
    assert torch.equal(extractor(COLOUR.astype(np.uint16) * 257)[0], right)
    assert torch.equal(extractor(COLOUR.astype(np.int64))[0], right)
    torch.testing.assert_close(extractor(COLOUR.astype(np.float32) / 255)[0], right)
    for wrong in (COLOUR.astype(np.float32), COLOUR.astype(np.int64) * 257, COLOUR.astype(np.int32) - 1, COLOUR > 9):
        with pytest.raises(UserError, match="allowed: "):
            extractor(wrong)


def test_the_range_of_floats_allows_for_rounding_only():
    image = torch.tensor([0.0, 1.0000002])
    assert known_range(image, "image") is image
    for value in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(UserError):
            known_range(torch.tensor([0.0, value]), "image")


def test_mmcvs_own_options_still_hold(load, tmp_path):
    path = write(tmp_path, "grey16.png", GREY.astype(np.uint16) * 257)
    assert load(path, color_type="unchanged").dtype == np.uint16
    assert load(path, to_float32=True).dtype == np.float32
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match=r"text\.png"):
        load(tmp_path / "text.png", color_type="grayscale")


def test_a_file_that_cannot_be_used_ends_training_with_its_name(load, tmp_path):
    """The error comes out of a data loader's worker as the one line that the tools print."""
    from torch.utils.data import DataLoader

    path = write(tmp_path, "beyond.tif", GREY.astype(np.float32))
    with pytest.raises(UserError) as error:
        list(DataLoader([path], num_workers=1, collate_fn=lambda paths: load(paths[0])))
    line = find_user_error(error.value)
    assert line.startswith(f"{path}: float32 values from 0 to 255") and "\n" not in line
