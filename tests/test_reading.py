"""One rule of reading: a range for values of more than 8 bits, alpha on a colour, turned everywhere or nowhere.

Every task reads a file to the same pixels by it. One option of a config sets it, and it travels in checkpoints.
"""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from PIL import Image
from readers import CONFIGS, PICTURES, READERS, checkpoint_of

from backbones import FeatureExtractor, UserError
from backbones.images import read_image, upright_size
from backbones.pixels import known_range
from backbones.reading import READING, Reading, reading_of
from backbones.weights import read_own_meta
from ziggurat.engine import Predictor
from ziggurat.engine.config import load_config
from ziggurat.engine.reading import chosen_reading, follow_reading, reading_of_dataset
from ziggurat.engine.tasks import task_for

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (40, 52, 3), dtype=np.uint16)  # 12 bits a channel
COLOUR = RNG.integers(0, 256, (40, 52, 3), dtype=np.uint8)
TWELVE_BITS = Reading(value_range=(0, 4095))


def scaled(values, low=0, high=4095):
    """The rule in float64: linear from (low, high) to (0, 255), rounded, clipped; grey in three channels."""
    pixels = np.clip(np.rint((values.astype(np.float64) - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2)


def deep_files(folder):
    """(file, its values) of every form with more than 8 bits a channel."""
    grey = DEEP[..., 0]
    for name, values in (("grey.png", grey), ("grey.tif", grey)):
        Image.fromarray(values).save(folder / name)
        yield folder / name, values
    cv2.imwrite(str(folder / "colour.png"), DEEP[..., ::-1])
    yield folder / "colour.png", DEEP
    tifffile.imwrite(folder / "colour.tif", DEEP, photometric="rgb")
    yield folder / "colour.tif", DEEP
    for name, values in (
        ("int16.tif", grey.astype(np.int16)),
        ("int32.tif", grey.astype(np.int32)),
        ("uint32.tif", grey.astype(np.uint32)),
        ("float_grey.tif", grey.astype(np.float32)),
        ("float_colour.tif", DEEP.astype(np.float32)),
    ):
        tifffile.imwrite(folder / name, values, photometric="rgb" if values.ndim == 3 else "minisblack")
        yield folder / name, values
    np.save(folder / "float.npy", DEEP.astype(np.float64))
    yield folder / "float.npy", DEEP
    np.savez(folder / "int.npz", DEEP.astype(np.int32))
    yield folder / "int.npz", DEEP


@pytest.mark.parametrize("name", PICTURES)
def test_a_range_maps_values_of_more_than_8_bits_alike_everywhere(name, tmp_path):
    for path, values in deep_files(tmp_path):
        assert np.array_equal(PICTURES[name](path, TWELVE_BITS), scaled(values)), path.name
    clipped = Reading(value_range=(1000, 2000))
    assert np.array_equal(PICTURES[name](tmp_path / "colour.png", clipped), scaled(DEEP, 1000, 2000))


@pytest.mark.parametrize("name", PICTURES)
def test_a_range_leaves_8_bits_as_they_are(name, tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    assert np.array_equal(PICTURES[name](tmp_path / "a.png", TWELVE_BITS), COLOUR)


def test_without_a_range_16_bits_give_their_high_byte(tmp_path):
    wide = RNG.integers(0, 65536, (40, 52, 4), dtype=np.uint16)
    high = (wide >> 8).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), wide[..., :3][..., ::-1])
    tifffile.imwrite(tmp_path / "a.tif", wide[..., :3], photometric="rgb")
    cv2.imwrite(str(tmp_path / "alpha.png"), wide[..., [2, 1, 0, 3]])
    for name in ("a.png", "a.tif", "alpha.png"):
        assert np.array_equal(read_image(tmp_path / name), high[..., :3]), name


def test_an_unsigned_value_beyond_the_signed_ones_is_no_negative(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((40, 40), 3_000_000_000, np.uint32))
    assert (np.asarray(read_image(tmp_path / "a.tif", reading=Reading((0, 4_000_000_000)))) == 191).all()


def test_integers_and_floats_without_a_known_range_are_refused(tmp_path):
    files = {path.name: path for path, _ in deep_files(tmp_path)}
    for name in ("int32.tif", "uint32.tif", "int16.tif", "float_grey.tif", "float_colour.tif", "float.npy", "int.npz"):
        with pytest.raises(UserError, match=rf"{name}.*reading\.value_range=\[0,4095\]"):
            read_image(files[name])
    np.save(tmp_path / "nan.npy", np.full((40, 40, 3), np.nan))
    with pytest.raises(UserError, match=r"nan\.npy.*not finite"):
        read_image(tmp_path / "nan.npy", reading=TWELVE_BITS)


@pytest.mark.parametrize(("suffix", "kind"), [("ppm", "PPM"), ("pgm", "PPM"), ("jp2", "JPEG2000")])
def test_formats_whose_values_pillow_scales_take_no_range(suffix, kind, tmp_path):
    path = tmp_path / f"a.{suffix}"
    if suffix == "jp2":
        cv2.imwrite(str(path), DEEP)
    else:
        values = DEEP if suffix == "ppm" else DEEP[..., 0]
        head = f"P{6 if suffix == 'ppm' else 5}\n52 40\n4095\n".encode()
        path.write_bytes(head + values.astype(">u2").tobytes())
    assert read_image(path).size == (52, 40)
    with pytest.raises(UserError, match=rf"a\.{suffix} is {kind} of more than 8 bits; allowed with a value_range: PNG"):
        read_image(path, reading=TWELVE_BITS)


def see_through(folder):
    """(file, its alpha channel 0..1, its colour without alpha) of every form of alpha."""
    alpha = RNG.integers(0, 256, (40, 52), dtype=np.uint8)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(folder / "rgba.png")
    yield folder / "rgba.png", alpha / 255, COLOUR
    grey = COLOUR[..., :1].repeat(3, 2)
    Image.fromarray(np.dstack([COLOUR[..., 0], alpha])).save(folder / "la.png")
    yield folder / "la.png", alpha / 255, grey
    palette = Image.fromarray(COLOUR).quantize(16)
    palette.save(folder / "palette.png", transparency=3)
    yield folder / "palette.png", (np.asarray(palette) != 3) * 1.0, np.asarray(palette.convert("RGB"))
    palette.save(folder / "palette.gif", transparency=3)
    yield folder / "palette.gif", (np.asarray(palette) != 3) * 1.0, np.asarray(palette.convert("RGB"))
    Image.fromarray(COLOUR[..., 0]).save(folder / "key.png", transparency=int(COLOUR[0, 0, 0]))
    yield folder / "key.png", (COLOUR[..., 0] != COLOUR[0, 0, 0]) * 1.0, grey
    wide = np.dstack([COLOUR, alpha]).astype(np.uint16) * 257
    tifffile.imwrite(folder / "rgba16.tif", wide, photometric="rgb", extrasamples=["unassalpha"])
    yield folder / "rgba16.tif", alpha / 255, COLOUR


@pytest.mark.parametrize("name", PICTURES)
def test_alpha_is_dropped_or_laid_upon_a_colour(name, tmp_path):
    ground = np.array([255, 0, 100])
    for path, alpha, colour in see_through(tmp_path):
        assert np.array_equal(PICTURES[name](path, READING), colour), path.name
        laid = PICTURES[name](path, Reading(alpha=(255, 0, 100)))
        wanted = alpha[..., None] * colour + (1 - alpha[..., None]) * ground
        assert np.abs(laid - wanted).max() < 1, path.name


def png_of_16_bits(values, colours):
    """A PNG file of (H, W, C) values, whose rows are stored as differences to the row above (PNG's filter 2)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = values.astype(">u2").view(np.uint8).reshape(len(values), -1)
    rows = rows - np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), 16, colours, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\x02" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("channels", "colours"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_png_of_16_bits_keeps_all_of_them_up_to_the_range(channels, colours, tmp_path):
    values = RNG.integers(0, 4096, (40, 52, channels), dtype=np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values, colours))
    wanted = scaled(values[..., :3] if channels > 2 else values[..., 0])
    for reading in (TWELVE_BITS, TWELVE_BITS._replace(alpha=(9, 9, 9))):
        assert np.array_equal(read_image(tmp_path / "a.png", reading=reading), wanted)


def test_alpha_and_a_range_hold_together(tmp_path):
    alpha = RNG.integers(0, 65536, (40, 52), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([DEEP[..., ::-1], alpha]))
    laid = np.asarray(read_image(tmp_path / "a.png", reading=Reading((0, 4095), (255, 255, 255))))
    share = (alpha >> 8)[..., None] / 255
    assert np.abs(laid - (share * scaled(DEEP) + (1 - share) * 255)).max() < 1


def upright(pixels, orientation):
    """By EXIF's definition of what the first row and the first column of the stored pixels are."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}[(0, 1, 2, 3, 4, 1, 2, 3, 4)[orientation]]
    return pixels[::rows, ::columns]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_photographs_are_turned_everywhere_or_nowhere(suffix, orientation, tmp_path):
    tags, plain = Image.Exif(), tmp_path / f"plain.{suffix}"
    tags[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = dict(lossless=True) if suffix == "webp" else {}
    Image.fromarray(COLOUR).save(path, exif=tags, **options)
    Image.fromarray(COLOUR).save(plain, **options)
    stored = np.asarray(Image.open(plain).convert("RGB"))
    for reading, wanted in ((READING, upright(stored, orientation)), (Reading(upright=False), stored)):
        assert upright_size(path, reading) == wanted.shape[1::-1]
        for name in ("read_image", "bytes", "detection", "classification"):
            assert np.array_equal(PICTURES[name](path, reading), wanted), name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(value_range=(5, 5)), "reading.value_range is (5, 5); allowed: (low, high)"),
        (dict(value_range=4095), "reading.value_range is 4095; allowed: (low, high)"),
        (dict(value_range=(0, float("inf"))), "reading.value_range is (0, inf)"),
        (dict(alpha="white"), "reading.alpha is 'white'; allowed: (red, green, blue), integers 0 to 255"),
        (dict(alpha=(0, 0, 256)), "reading.alpha is (0, 0, 256)"),
        (dict(upright=0), "reading.upright is 0; allowed: True, False"),
        (dict(channels=0), "reading.channels is 0; allowed: integers from 1"),
        (dict(range=(0, 1)), "unknown key of reading 'range'; allowed: value_range"),
        ([0, 4095], "reading is [0, 4095]; allowed: a dict of value_range, alpha, upright"),
    ],
)
def test_a_rule_that_is_not_allowed_is_one_line(given, words):
    with pytest.raises(UserError) as error:
        reading_of(given)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("task", CONFIGS)
def test_one_option_reaches_every_loading_step(task, request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    options = ["reading.value_range=[0,4095]", "reading.upright=false", "data_root=nowhere"]
    cfg = load_config(CONFIGS[task], options)
    wanted = Reading(value_range=(0, 4095), upright=False)
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        assert reading_of_dataset(dataset) == wanted
    again = Config(cfg.to_dict())  # as a dumped config, which another option changes
    again.merge_from_dict({"reading.upright": True})
    task_for(again)
    from ziggurat.engine.complete import complete

    complete(again)
    assert reading_of_dataset(again.train_dataloader.dataset) == Reading(value_range=(0, 4095))
    if task != "classification":
        steps = [*cfg.tta_pipeline, *cfg.train_pipeline, *cfg.test_pipeline]
        rules = [step.reading for step in steps if step.type == "LoadImageFromFile"]
        assert len(rules) >= 3 and all(reading_of(rule) == wanted for rule in rules)
    with pytest.raises(UserError, match=r"reading\.alpha is 5"):
        load_config(CONFIGS[task], ["reading.alpha=5"])


def test_the_option_leaves_a_config_without_it_as_it_was(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    cfg = load_config(CONFIGS["classification"], ["data_root=nowhere"])
    assert "reading" not in cfg and "reading" not in cfg.train_dataloader.dataset


def test_mmcvs_own_readers_know_no_rule():
    from mmdet.registry import TRANSFORMS

    import detection  # noqa: F401

    with pytest.raises(UserError, match=r"color_type='grayscale'.*know no reading"):
        TRANSFORMS.build(dict(type="mmdet.LoadImageFromFile", color_type="grayscale", reading=dict(upright=False)))


def test_predictions_and_features_read_as_the_training_did(tmp_path, request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "deep.tif", exif=tags)
    file = checkpoint_of("classification", tmp_path, reading=dict(value_range=(0, 4095), upright=False))
    wanted = Reading(value_range=(0, 4095), upright=False)
    predictor = Predictor(file)
    assert predictor.reading == wanted
    in_memory = predictor.sample(scaled(DEEP[..., 0]))["inputs"]
    assert torch.equal(predictor.sample(str(tmp_path / "deep.tif"))["inputs"], in_memory)
    assert torch.equal(predictor.sample(DEEP[..., 0])["inputs"], in_memory)
    assert predictor.draw(tmp_path / "deep.tif", predictor(tmp_path / "deep.tif")).width >= 52
    turned = Predictor(file, cfg_options=["reading.upright=true"])
    assert turned.reading == Reading(value_range=(0, 4095))
    extractor = FeatureExtractor("van_b0", (0,), pretrained=file)
    assert extractor.reading == wanted
    assert torch.equal(extractor(tmp_path / "deep.tif")[0], extractor(scaled(DEEP[..., 0]))[0])
    assert FeatureExtractor("van_b0", (0,), pretrained=file, reading={}).reading == READING


def test_testing_reads_as_the_training_did_unless_the_config_says_otherwise(tmp_path, request, monkeypatch, capsys):
    monkeypatch.chdir(request.config.rootpath)
    file = checkpoint_of("detection", tmp_path, reading=dict(upright=False))
    own = read_own_meta(torch.load(file))
    cfg = load_config(CONFIGS["detection"], {"data_root": "nowhere"})
    follow_reading(cfg, own, "mmdet", "epoch_1.pth")
    assert "images are read as in the run that wrote epoch_1.pth: {'upright': False}" in capsys.readouterr().err
    assert reading_of_dataset(cfg.test_dataloader.dataset) == Reading(upright=False)
    cfg = load_config(CONFIGS["detection"], {"data_root": "nowhere", "reading": dict(alpha=(1, 2, 3))})
    follow_reading(cfg, own, "mmdet", "epoch_1.pth")
    words = "images are read by {'alpha': (1, 2, 3)}, and in the run that wrote epoch_1.pth by {'upright': False}"
    assert words in capsys.readouterr().err
    assert reading_of_dataset(cfg.test_dataloader.dataset) == Reading(alpha=(1, 2, 3))
    assert Predictor(CONFIGS["detection"], file).reading == Reading(upright=False)


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "npy"])
def test_the_most_pixels_of_an_image_are_part_of_the_rule(reader, suffix, tmp_path, monkeypatch):
    """Pillow's limit is 179 megapixels, and here 0.002: twice what it warns of."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path, count = tmp_path / f"large.{suffix}", COLOUR.shape[0] * COLOUR.shape[1]
    np.save(path, COLOUR) if suffix == "npy" else Image.fromarray(COLOUR).save(path)
    with pytest.raises(ValueError, match=r"too many pixels.*0\.002 megapixels; more with reading\.max_pixels=N"):
        READERS[reader](path, READING)
    with pytest.raises(ValueError, match=r"too many pixels"):
        READERS[reader](path, Reading(max_pixels=count - 1))
    assert READERS[reader](path, Reading(max_pixels=count)).shape == COLOUR.shape
    assert upright_size(path, Reading(max_pixels=count)) == COLOUR.shape[1::-1]
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_the_most_pixels_leave_the_rest_of_a_rule_to_the_training(tmp_path, capsys):
    file = checkpoint_of("detection", tmp_path, reading=dict(upright=False, max_pixels=7))
    own = read_own_meta(torch.load(file))
    for given, found in ((dict(max_pixels=5), 5), (None, None)):
        cfg = load_config(CONFIGS["detection"], {"data_root": "nowhere", "reading": given})
        follow_reading(cfg, own, "mmdet", "epoch_1.pth")
        assert reading_of_dataset(cfg.test_dataloader.dataset) == Reading(upright=False, max_pixels=found)
    cfg = load_config(CONFIGS["detection"], {"data_root": "nowhere", "reading": dict(upright=False, max_pixels=5)})
    capsys.readouterr()
    follow_reading(cfg, own, "mmdet", "epoch_1.pth")
    assert capsys.readouterr().err == ""
    assert Predictor(file, cfg_options=["reading.max_pixels=9"]).reading == Reading(upright=False, max_pixels=9)
    for wrong in (0, -1, 1.5, True, "many"):
        with pytest.raises(UserError, match=r"reading\.max_pixels is .*; allowed: integers from 1 up"):
            reading_of(dict(max_pixels=wrong))


def test_the_channels_are_those_of_the_network():
    model = dict(type="Classifier", backbone=dict(type="VAN", arch="van_b0", in_chans=5))
    assert chosen_reading(Config(dict(model=model))).channels == 5
    assert chosen_reading(Config(dict(model=dict(type="Wrapper", module=model)))).channels == 5
    with pytest.raises(UserError, match=r"reading\.channels is 4, and model\.backbone\.in_chans 5"):
        chosen_reading(Config(dict(model=model, reading=dict(channels=4))))


def test_arrays_in_memory_follow_the_range():
    values = torch.tensor([0.0, 2047.5, 5000.0])
    assert known_range(values, "image", TWELVE_BITS).tolist() == [0, 128, 255]
    assert known_range(values.to(torch.int32), "image", TWELVE_BITS).tolist() == [0, 127, 255]
    assert known_range(torch.tensor([7], dtype=torch.uint8), "image", TWELVE_BITS).tolist() == [7]
