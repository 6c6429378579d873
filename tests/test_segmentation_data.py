"""Masks before and during a run.

Values become class indices exactly. One option names the classes. Every flaw in a user's folders is one clear line that
names the file.
"""

import shutil

import dense_data
import numpy as np
import pytest
from PIL import Image

from backbones import UserError
from ziggurat.engine.cli import find_user_error
from ziggurat.engine.config import load_config

CONFIG = "segmentation/configs/van/upernet_van_b0_512x512_160k_ade20k.py"


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    from mmengine.registry import init_default_scope

    monkeypatch.chdir(request.config.rootpath)
    init_default_scope("mmseg")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return dense_data.write_masks(tmp_path_factory.mktemp("masks") / "data")


@pytest.fixture
def masks(original, tmp_path):
    return shutil.copytree(original, tmp_path / "own")


def own(root, **options):
    return load_config(CONFIG, {"data_root": str(root), "classes": 3, **options})


def error_of(cfg):
    from segmentation import TASK

    with pytest.raises(UserError) as error:
        TASK.check_data(cfg)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("reduce_zero_label", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_become_indices(tmp_path, reduce_zero_label, dtype):
    from segmentation.data import read_mask

    values = np.array([[0, 1, 2], [3, 255, 1]], dtype)
    Image.fromarray(values).save(tmp_path / "mask.png")
    wanted = [[255, 0, 1], [2, 255, 0]] if reduce_zero_label else [[0, 1, 2], [3, 255, 1]]
    mask = read_mask(tmp_path / "mask.png", 4, reduce_zero_label)
    assert mask.dtype == np.uint8 and mask.tolist() == wanted


def test_palette_images_count_by_index_not_colour(tmp_path):
    from segmentation.data import read_mask

    image = Image.fromarray(np.array([[1, 2]], np.uint8), mode="L").convert("P")
    image.putpalette([9, 9, 9] * 256)
    image.putdata([1, 2])
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", 2, True).tolist() == [[0, 1]]


def test_masks_of_another_size_than_their_image(masks):
    """Said before the run, or where the mask is loaded, in training and in testing."""
    from segmentation import TASK

    path = masks / "annotations/training/3.png"
    Image.fromarray(np.ones((32, 64), np.uint8)).save(path)
    wanted = "3.png has 64x32 pixels, and its image 64x64, upright as its EXIF data say; allowed: the same size"
    cfg = own(masks)
    assert wanted in error_of(cfg)
    cfg.val_dataloader.dataset.data_prefix = cfg.train_dataloader.dataset.data_prefix
    for split in ("train", "val"):
        with pytest.raises(UserError, match=wanted):
            TASK.build_dataset(cfg, split)[3]


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_two_files_of_one_name(masks, kind):
    image = Image.fromarray(np.ones((64, 64), np.uint8))
    image.save(masks / kind / "training/2.tif")
    assert "training/2.tif differs from 2.png in its suffix alone; allowed: one file of a name" in error_of(own(masks))


@pytest.mark.parametrize(
    "values, reduce_zero_label, words",
    [
        ([[1, 5, 9]], True, ["values 5, 9", "1 to 3", "0 and 255"]),
        ([[3, 0]], False, ["values 3", "0 to 2", "255"]),
        ([[300, 1]], True, ["300", "1 to 3"]),
    ],
)
def test_values_outside_the_classes(tmp_path, values, reduce_zero_label, words):
    from segmentation.data import read_mask

    path = tmp_path / "mask.png"
    Image.fromarray(np.array(values, np.uint16)).save(path)
    with pytest.raises(UserError) as error:
        read_mask(path, 3, reduce_zero_label)
    assert str(path) in str(error.value) and all(word in str(error.value) for word in words)


def test_colour_masks_cut_off_and_absent_files(tmp_path):
    from segmentation.data import read_mask

    Image.new("RGB", (8, 8)).save(tmp_path / "colour.png")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:700])
    (tmp_path / "text.png").write_text("no image")
    wanted = {"colour": "3 channels", "cut": "cannot be read", "text": "not an image", "gone": "no such mask"}
    for name, words in wanted.items():
        with pytest.raises(UserError, match=words) as error:
            read_mask(tmp_path / f"{name}.png", 3, True)
        assert f"{name}.png" in str(error.value)


@pytest.mark.parametrize("classes, names", [(3, ["class 0", "class 1", "class 2"]), (["a", "b", "c"], ["a", "b", "c"])])
def test_one_option_names_the_classes(masks, classes, names):
    cfg = own(masks, classes=classes)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert list(loader.dataset.metainfo.classes) == names
        assert len(set(map(tuple, loader.dataset.metainfo.palette))) == 3
        assert loader.dataset.data_root == str(masks)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 3


@pytest.mark.parametrize("classes", [0, 300, ["a", "a"], True])
def test_classes_that_make_no_sense(masks, classes):
    with pytest.raises(UserError, match="classes="):
        own(masks, classes=classes)


def test_ade20k_is_the_default():
    from mmseg.datasets import ADE20KDataset

    cfg = load_config(CONFIG)
    assert cfg.model.decode_head.num_classes == 150 and cfg.train_dataloader.dataset.reduce_zero_label is True
    from mmseg.registry import DATASETS

    data = DATASETS.build(cfg.train_dataloader.dataset | dict(pipeline=[], lazy_init=True))
    assert data.metainfo["classes"] == ADE20KDataset.METAINFO["classes"]
    assert data.metainfo["palette"] == ADE20KDataset.METAINFO["palette"]


def test_the_data_set_pairs_images_with_masks_of_another_suffix(masks):
    from mmseg.registry import DATASETS

    folder = masks / "annotations/training"
    (folder / "0.png").rename(folder / "0.bmp")  # Pillow reads by content
    (masks / "images/training/sub").mkdir()
    (folder / "sub").mkdir()
    shutil.move(masks / "images/training/1.png", masks / "images/training/sub/1.png")
    shutil.move(folder / "1.png", folder / "sub/1.png")
    cfg = own(masks)
    data = DATASETS.build(cfg.train_dataloader.dataset | dict(pipeline=[dict(type="LoadMask")]))
    assert [item["seg_map_path"].removeprefix(f"{folder}/") for item in data] == [
        "0.bmp",
        "2.png",
        "3.png",
        "sub/1.png",
    ]
    wanted = np.full((64, 64), 2)
    for index, mask in dense_data.scene(0)[1]:
        wanted[mask] = index
    wanted[0, :5] = 255
    assert np.array_equal(data[0]["gt_seg_map"], wanted)


def test_an_image_alone_passes_the_pipeline_of_the_test_set(masks):
    """mmseg's inference_model and MMSegInferencer send it through; the first reads ``cfg.test_pipeline``."""
    from mmcv.transforms import Compose
    from mmengine.registry import init_default_scope

    cfg = own(masks)
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    init_default_scope("mmseg")
    path = str(next(masks.glob("images/validation/*")))
    sample = Compose(cfg.test_pipeline)(dict(img_path=path))
    assert sample["inputs"].ndim == 3 and "gt_sem_seg" not in sample["data_samples"]


def test_good_folders_pass(masks):
    from segmentation import TASK

    TASK.check_data(own(masks))


def test_masks_without_an_image_are_named(masks, capsys):
    from segmentation import TASK

    TASK.check_data(own(masks))
    assert "note" not in capsys.readouterr().err
    (masks / "images/validation/1.png").unlink()
    TASK.check_data(own(masks))
    folder = masks / "annotations/validation"
    line = f"note: 1 of 2 masks in {folder} have no image of the same name, and are left out: 1.png\n"
    assert capsys.readouterr().err == line


def test_masks_without_a_label_are_noted(masks, capsys):
    """As where 0 is the first class, and reduce_zero_label was not set."""
    from segmentation import TASK

    folder = masks / "annotations/training"
    for path in list(folder.iterdir())[1:]:
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    TASK.check_data(own(masks))
    assert "note" not in capsys.readouterr().err
    for path in folder.iterdir():
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    TASK.check_data(own(masks))
    assert capsys.readouterr().err == f"note: {folder}: no pixel of 4 masks has a label; see reduce_zero_label\n"


def test_missing_and_empty_folders(masks, tmp_path):
    assert "no data folder" in error_of(own(tmp_path / "nowhere"))
    shutil.move(masks / "annotations/training/0.png", tmp_path / "0.png")
    message = error_of(own(masks))
    assert "1 of 4 images" in message and "0.png" in message
    shutil.rmtree(masks / "images/training")
    assert "no image folder" in error_of(own(masks))
    (masks / "images/training").mkdir()
    assert "no images in" in error_of(own(masks))


def test_jpeg_masks_are_said_to_be_jpeg_not_to_be_absent(masks):
    folder = masks / "annotations/training"
    for path in list(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    message = error_of(own(masks))
    assert f"masks in {folder} are .jpg files, e.g. 0.jpg" in message and "allowed: .png" in message
    (folder / "0.jpg").unlink()
    assert "4 of 4 images" in error_of(own(masks))


def test_a_mask_beyond_pillows_limit_is_named(masks, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    assert f"mask has too many pixels: {masks / 'annotations/training/0.png'}" in error_of(own(masks))


def test_mask_values_outside_the_classes_are_named_with_the_file(masks):
    message = error_of(own(masks, classes=2))
    assert str(masks / "annotations/training/0.png") in message and "values 3" in message and "1 to 2" in message


def test_a_bad_mask_that_the_sample_missed_is_named_out_of_a_worker(masks):
    from mmengine.runner import Runner

    Image.fromarray(np.full((64, 64), 77, np.uint8)).save(masks / "annotations/training/2.png")
    cfg = own(masks, **dense_data.small_mask_pipelines())
    loader = Runner.build_dataloader(cfg.train_dataloader | dict(num_workers=1, batch_size=1), seed=0)
    with pytest.raises(UserError) as error:
        for _, _batch in zip(range(20), loader, strict=False):
            pass
    assert f"{masks / 'annotations/training/2.png'}: mask values 77 are outside" in find_user_error(error.value)


def test_the_check_reads_a_bounded_number_of_masks(tmp_path, monkeypatch):
    from segmentation import TASK, mask_findings

    root = dense_data.write_masks(tmp_path / "many", {"training": 120, "validation": 3})
    read, read_mask = [], mask_findings.read_mask
    monkeypatch.setattr(mask_findings, "read_mask", lambda path, *args: read.append(path) or read_mask(path, *args))
    TASK.check_data(own(root))
    assert 3 < len(read) <= 50 + 3
