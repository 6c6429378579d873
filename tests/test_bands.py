"""Images of any number of channels: files, the rule of their axes, and all three tasks trained on them."""

import copy
import importlib
import json
import zipfile

import dense_data
import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from PIL import Image
from readers import READERS

from backbones import FeatureExtractor, UserError, create_backbone
from backbones.images import read_image, read_pixels, upright_size
from backbones.reading import Reading
from engine import Predictor
from engine.bands import COLOUR_STEPS, use_channels
from engine.config import load_config
from engine.run import build_training
from engine.tasks import task_for

RNG = np.random.default_rng(0)
FIVE = RNG.integers(0, 65536, (40, 52, 5), dtype=np.uint16)
READING = Reading(channels=5)


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


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


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_weights_of_rgb_are_widened_by_one_rule(channels, tiny):
    """timm's adapt_input_conv agrees where both rules speak of the same: one channel, the first three, and the sum."""
    from timm.models import adapt_input_conv

    rgb = tiny("van_b0")
    weight = rgb.stem.conv.weight.detach()
    with pytest.warns(match=rf"stem\.conv\.weight, 3 channels to {channels}: .*times 3/{channels}"):
        from backbones import load_weights

        wide = tiny("van_b0", in_chans=channels)
        report = load_weights(wide, rgb.state_dict())
    assert report.widened.startswith("stem.conv.weight") and not report.missing and not report.unexpected
    ours, timms = wide.stem.conv.weight.detach(), adapt_input_conv(channels, weight)
    mean = weight.mean(1, keepdim=True) * 3 / channels
    assert ours.shape[1] == channels
    if channels == 1:
        torch.testing.assert_close(ours, timms)
    if channels > 3:
        torch.testing.assert_close(ours[:, :3], timms[:, :3])
    beyond = ours[:, 3:] if channels > 3 else ours
    torch.testing.assert_close(beyond, mean.expand_as(beyond))
    torch.testing.assert_close(ours.sum(1), weight.sum(1))


@pytest.mark.filterwarnings("ignore::backbones.errors.Notice")
def test_an_image_of_equal_channels_gives_the_maps_of_its_grey(tiny):
    donor = tiny("vig_tiny", out_blocks=(1,)).eval()
    wide = tiny("vig_tiny", out_blocks=(1,), in_chans=6).eval()
    from backbones import load_weights

    load_weights(wide, donor.state_dict())
    grey = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(
        wide(grey.expand(1, 6, 64, 64))[0], donor(grey.expand(1, 3, 64, 64))[0], atol=1e-4, rtol=1e-4
    )


def test_only_weights_of_three_channels_are_widened(tiny):
    from backbones import load_weights

    four = tiny("van_b0", in_chans=4)
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        load_weights(tiny("van_b0", in_chans=5), four.state_dict())
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        load_weights(tiny("van_b0"), four.state_dict())
    assert load_weights(tiny("van_b0", in_chans=4), four.state_dict()).widened == ""


def test_a_run_starts_from_a_whole_model_of_rgb(capsys):
    from classification import create_classifier
    from engine.checkpoints import load_state

    rgb, wide = create_classifier("van_b0", num_classes=2), create_classifier("van_b0", num_classes=2, in_chans=4)
    state = rgb.state_dict()
    with pytest.raises(UserError, match=r"backbone\.stem\.conv\.weight"):
        load_state(wide, state, "rgb.pth", exact=True)
    assert load_state(wide, state, "rgb.pth", exact=False) == ""
    assert "rgb.pth: backbone.stem.conv.weight, 3 channels to 4: the first three" in capsys.readouterr().err
    weight = rgb.backbone.stem.conv.weight
    torch.testing.assert_close(wide.backbone.stem.conv.weight[:, :3], weight * 0.75)


def test_features_of_bands_keep_the_statistics_of_rgb_in_the_first_three(tmp_path):
    extractor = FeatureExtractor("van_b0", (0,), in_chans=5, mean=None)
    three = FeatureExtractor("van_b0", (0,)).statistics
    assert extractor.statistics.mean[:3] == three.mean
    assert extractor.statistics.mean[3:] == pytest.approx([sum(three.mean) / 3] * 2)
    np.save(tmp_path / "a.npy", FIVE)
    assert torch.equal(extractor(tmp_path / "a.npy")[0], extractor((FIVE >> 8).astype(np.uint8))[0])


def with_bands(root, suffix):
    """Replaces the pictures of a data set by files of five bands: RGB, its grey, and noise."""
    for path in sorted(root.rglob("*.png")):
        if "annotations" in path.parts:
            continue
        rgb = np.asarray(Image.open(path).convert("RGB")).astype(np.uint16) * 257
        noise = RNG.integers(0, 65536, (*rgb.shape[:2], 1), dtype=np.uint16)
        bands = np.concatenate([rgb, rgb[..., :1], noise], 2)
        path.unlink()
        if suffix == ".npy":
            np.save(path.with_suffix(suffix), bands)
        else:
            tifffile.imwrite(path.with_suffix(suffix), bands, planarconfig="contig", photometric="minisblack")
    for path in (root / "annotations").glob("*.json"):
        path.write_text(path.read_text().replace(".png", suffix))
    return root


def write_folders(root):
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(RNG.integers(0, 256, (40, 48, 3), np.uint8)).save(root / split / name / f"{i}.png")
    return root


SHORT = {
    "train_cfg": dict(_delete_=True, type="IterBasedTrainLoop", max_iters=1, val_interval=1),
    "train_dataloader.sampler": dict(type="InfiniteSampler", shuffle=False),
    "train_dataloader.batch_size": 2,
    "param_scheduler": [],
    "default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=1),
    "log_processor.by_epoch": False,
    "model.backbone.in_chans": 5,
}
PHOTOMETRIC = dict(type="PhotoMetricDistortion")


def short_config(task, root, weights):
    options = copy.deepcopy(SHORT) | {"data_root": str(root), "model.backbone.pretrained": str(weights)}
    if task == "classification":
        options |= {
            "train_dataloader.dataset.in_memory": False,
            "val_dataloader.dataset.in_memory": True,
            "train_dataloader.dataset.transform.auto_augment": "rand-m9",
            "train_dataloader.num_workers": 0,
        }
        return load_config("classification/configs/demo/van_b0_digits.py", options)
    options |= dense_data.SMALL_LOADERS
    if task == "detection":
        pipelines = dense_data.small_coco_pipelines(with_mask=True)
        options |= dense_data.SLIM_ROI | pipelines
        options |= {"model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 64}
        path = "detection/configs/van/mask_rcnn_van_b0_fpn_1x_coco.py"
    else:
        pipelines = dense_data.small_mask_pipelines()
        options |= pipelines | {"classes": ["box", "disc", "background"], "model.decode_head.channels": 32}
        path = "segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py"
        options |= {"model.neck.out_channels": 32, "model.decode_head.in_channels": [32] * 4}
    pipelines["train_dataloader.dataset.pipeline"].insert(3, PHOTOMETRIC)
    options["val_dataloader.dataset.pipeline"] = pipelines["val_dataloader.dataset.pipeline"]
    return load_config(path, options)


MAKERS = {
    "classification": write_folders,
    "detection": dense_data.write_coco,
    "segmentation": dense_data.write_masks,
}


@pytest.mark.usefixtures("shallow_van")
@pytest.mark.parametrize("task", MAKERS)
def test_a_task_trains_and_predicts_on_five_bands(task, tmp_path, capsys):
    suffix = ".tif" if task == "detection" else ".npy"
    root = with_bands(MAKERS[task](tmp_path / "data"), suffix)
    torch.save(create_backbone("van_b0").state_dict(), tmp_path / "rgb.pth")
    cfg = short_config(task, root, tmp_path / "rgb.pth")
    said = capsys.readouterr()
    step = "auto_augment" if task == "classification" else "PhotoMetricDistortion"
    assert f"in_chans=5: left out, since they are for images in RGB: {step}" in said.out + said.err
    runner = build_training(cfg, tmp_path / "run", device="cpu")
    weight = runner.model.backbone.stem.conv.weight
    before = weight.detach().clone()
    assert runner.model.data_preprocessor.mean.numel() == 5
    runner.train()
    assert weight.shape[1] == 5 and (weight != before).any(0).all()  # of each channel some weights have moved
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").data[0]).all()

    dataset = task_for(cfg).build_dataset(cfg, "train")
    assert task_for(cfg).draw_sample(dataset[0], dataset.metainfo).mode == "RGB"
    predictor = Predictor(tmp_path / "run/iter_1.pth")
    assert predictor.reading.channels == 5
    image = next(path for path in sorted(root.rglob(f"*{suffix}")) if "annotations" not in path.parts)
    found = predictor(image)
    pixels = read_pixels(image, reading=READING)
    again = predictor(pixels)
    first, second = (predictor.describe(one) for one in (found, again))
    assert json.dumps(first) == json.dumps(second)
    assert predictor.draw(image, found).width >= pixels.shape[1]
    with pytest.raises(UserError, match=r"allowed: a path, a PIL image, an array \(H, W, 5\)"):
        predictor(pixels[..., :3])


@pytest.mark.parametrize(("scope", "task"), [("mmdet", "detection"), ("mmseg", "segmentation")])
def test_bands_are_padded_as_the_channels_of_a_picture(scope, task):
    """Channel by channel what mm's step does to three of them."""
    importlib.import_module(task)
    build = importlib.import_module(f"{scope}.registry").TRANSFORMS.build
    pixels = RNG.integers(0, 256, (20, 30, 6), dtype=np.uint8)
    options = dict(size=(40, 48), pad_val=dict(img=114, seg=255))
    ours = build(dict(type="PadBands", **options)).transform(dict(img=pixels.copy()))
    for part in (slice(0, 3), slice(3, 6)):
        theirs = build(dict(type="Pad", **options)).transform(dict(img=np.ascontiguousarray(pixels[..., part])))
        assert np.array_equal(ours["img"][..., part], theirs["img"])
    assert ours["pad_shape"][:2] == theirs["pad_shape"][:2] and ours["img_shape"][:2] == theirs["img_shape"][:2]


def test_a_recipe_of_other_steps_keeps_those_that_know_any_channels(capsys):
    options = {"model.backbone.in_chans": 6, "data_root": "nowhere"}
    cfg = load_config("detection/configs/van/rtmdet_van_b1_300e_coco.py", options)
    kinds = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert "PadBands" in kinds and not {"Pad", "CachedMosaic", "CachedMixUp", "YOLOXHSVRandomAug"} & set(kinds)
    assert "left out, since they are for images in RGB: YOLOXHSVRandomAug, CachedMosaic" in capsys.readouterr().err


def test_means_of_another_number_are_one_line():
    config = "classification/configs/demo/van_b0_digits.py"
    options = {
        "model.backbone.in_chans": 5,
        "data_root": "nowhere",
        "model.data_preprocessor.mean": [0.1, 0.2, 0.3, 0.4],
    }
    with pytest.raises(UserError, match=r"data_preprocessor\.mean has 4 numbers, and model\.backbone\.in_chans is 5"):
        load_config(config, options)
    options["model.data_preprocessor.mean"] = [0.1, 0.2, 0.3]
    options["model.data_preprocessor.std"] = [0.1, 0.2, 0.3, 0.4, 0.5]
    preprocessor = load_config(config, options).model.data_preprocessor
    assert preprocessor.mean == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.2])
    assert list(preprocessor.std) == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_typed_numbers_of_mms_models_keep_their_order():
    """mm's models read files as BGR, and bands in the order of the file, which begins with red."""
    for bgr_to_rgb, mean in ((True, [3, 2, 1]), (False, [1, 2, 3])):
        part = dict(type="DetDataPreprocessor", mean=mean, std=[9, 9, 9], bgr_to_rgb=bgr_to_rgb)
        cfg = Config(dict(model=dict(data_preprocessor=part, backbone=dict(arch="van_b0", in_chans=4))))
        use_channels(cfg)
        found = cfg.model.data_preprocessor
        assert found.type == "DetBandsPreprocessor" and found.mean == [3, 2, 1, 2] and "bgr_to_rgb" not in found


def test_the_steps_of_colours_exist():
    names = set()
    for task, scope in (("detection", "mmdet"), ("segmentation", "mmseg")):
        importlib.import_module(task)
        names |= set(importlib.import_module(f"{scope}.registry").TRANSFORMS.module_dict)
    assert set(COLOUR_STEPS) <= names
