"""Images in every layout: the same pixels and classes as independent readers give, and errors that name file and line.

The references are torchvision's data sets, webdataset's own stream, and the images as they were written.
"""

import io
import json
import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
import torch
import torchvision
from mmengine.registry import DATASETS
from PIL import Image
from timm.data import auto_augment

from backbones import UserError
from backbones.images import read_image
from classification import TASK
from classification.data import CifarImages, CsvImages, HubImages, IlsvrcImages, ImageFolder, ShardImages
from classification.data.samples import Samples
from classification.data.transforms import augmentations, build_transform
from ziggurat.engine.config import load_config
from ziggurat.engine.run import build_training

CONFIG = "classification/configs/demo/van_b0_digits.py"
WHOLE = dict(input_size=40, crop_pct=1.0)  # shows an image of 40x40 pixels as it is


def picture(seed, side=40):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def pixels(item):
    return item["inputs"].permute(1, 2, 0).numpy()


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, request):
    """The configs' folder as current directory, and a cache folder of the test's own."""
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))


def option(root, kind, **more):
    return load_config(CONFIG, {"data_root": str(root), "data_format": kind, **more})


# --- lists of images


def test_packed_samples_are_a_list_of_pairs():
    pairs = [("a/b.jpg", 3), ("", 0), ("ä\udcff.png", 2)]  # the last name is no UTF-8
    samples = Samples(pairs)
    assert list(samples) == pairs and samples[-1] == pairs[-1] and samples[1:] == pairs[1:] and len(samples) == 3
    assert list(pickle.loads(pickle.dumps(samples))) == pairs
    with pytest.raises(IndexError):
        samples[3]


def test_hidden_files_and_thumbnails_are_no_images_and_links_are_followed(tmp_path):
    for name in ("ant", "@eaDir", ".cache", "__MACOSX"):
        (tmp_path / "train" / name).mkdir(parents=True)
        picture(0).save(tmp_path / "train" / name / "0.png")
    picture(0).save(tmp_path / "train/ant/._0.png")
    (tmp_path / "train/ant/folder.jpg").mkdir()
    (tmp_path / "elsewhere").mkdir()
    picture(1).save(tmp_path / "elsewhere/1.png")
    (tmp_path / "train/ant/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train/ant/loop").symlink_to(tmp_path / "train/ant")
    data = ImageFolder(tmp_path, "train", WHOLE)
    assert data.classes == ["ant"] and [name[-5:] for name, _ in data.samples] == ["0.png", "1.png"]


def test_class_folders_are_those_of_torchvision(tmp_path):
    for i, name in enumerate(("b", "a", "c")):
        (tmp_path / "val" / name).mkdir(parents=True)
        picture(i).save(tmp_path / "val" / name / f"{i}.png")
    ours, theirs = ImageFolder(tmp_path, "val", WHOLE), torchvision.datasets.ImageFolder(tmp_path / "val")
    assert ours.classes == theirs.classes and list(ours.samples) == theirs.samples
    for item, (image, label) in zip(ours, theirs):
        np.testing.assert_array_equal(pixels(item), np.asarray(image))
        assert item["data_samples"] == label


def test_no_magnitude_of_randaugment_stops_a_training():
    """Magnitudes are drawn around 9, and 10 leaves no bits to posterize. The image is then black, as with older Pillow.
    timm's own function gives the other images."""
    transform = build_transform(dict(is_training=True, input_size=32, auto_augment="rand-m10-n1-p1-inc1"))
    op = next(step for step in augmentations(transform) if step.name == "PosterizeIncreasing")
    assert np.asarray(op(picture(0))).max() == 0
    for magnitude in (1, 5, 9):
        op.magnitude = magnitude
        theirs = auto_augment.AugmentOp("PosterizeIncreasing", 1.0, magnitude)(picture(0))
        np.testing.assert_array_equal(np.asarray(op(picture(0))), np.asarray(theirs))
    for policy in ("v0", "original", "3a"):
        steps = list(augmentations(build_transform(dict(is_training=True, input_size=32, auto_augment=policy))))
        assert steps and auto_augment.posterize not in [step.aug_fn for step in steps]


# --- ImageNet's flat validation folder

SYNSETS = {1: "n00000007", 2: "n00000003", 3: "n00000005"}  # the devkit's ids do not follow the names


@pytest.fixture
def flat(tmp_path):
    """Four validation images of the devkit's classes 2, 1, 3, 2."""
    for wnid in SYNSETS.values():
        (tmp_path / "train" / wnid).mkdir(parents=True)
        picture(0).save(tmp_path / "train" / wnid / "0.png")
    (tmp_path / "val").mkdir()
    for i in range(1, 5):
        picture(i).save(tmp_path / f"val/ILSVRC2012_val_{i:08}.png")
    return tmp_path


def write_devkit(root):
    (root / "ILSVRC2012_devkit_t12/data").mkdir(parents=True)
    (root / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n3\n2\n")
    return root / "ILSVRC2012_devkit_t12/data"


def write_map(root):
    lines = "".join(f"{wnid} {number} some_name\n" for number, wnid in SYNSETS.items())
    (write_devkit(root) / "map_clsloc.txt").write_text(lines)


def write_mat(root):
    io_of_scipy = pytest.importorskip("scipy.io")
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    rows = [(number, wnid, 0) for number, wnid in SYNSETS.items()] + [(4, "n00000001", 3)]  # the last is a superclass
    io_of_scipy.savemat(write_devkit(root) / "meta.mat", {"synsets": np.array(rows, kinds)})


def write_kaggle(root):
    rows = "".join(f"ILSVRC2012_val_{i:08},{SYNSETS[n]} 1 2 3 4 {SYNSETS[n]} 5 6 7 8\n" for i, n in ((2, 1), (1, 2)))
    rows += "".join(f"ILSVRC2012_val_{i:08},{SYNSETS[n]} 1 2 3 4 \n" for i, n in ((4, 2), (3, 3)))
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)


def write_indices(root):
    (root / "val.txt").write_text("".join(f"ILSVRC2012_val_{i:08}.png {n}\n" for i, n in enumerate((0, 2, 1, 0), 1)))


def write_names(root):
    (root / "labels.txt").write_text(
        "".join(f"ILSVRC2012_val_{i:08}.png {SYNSETS[n]}\n" for i, n in enumerate((2, 1, 3, 2), 1))
    )
    return dict(labels="labels.txt")


@pytest.mark.parametrize("write", [write_map, write_mat, write_kaggle, write_indices, write_names])
def test_the_flat_validation_folder_has_the_classes_of_its_label_file(write, flat):
    data = IlsvrcImages(flat, "val", WHOLE, **(write(flat) or {}))
    assert data.classes == ["n00000003", "n00000005", "n00000007"]
    labels = {name[-5]: label for name, label in data.samples}
    assert labels == {"1": 0, "2": 2, "3": 1, "4": 0}
    found = {name[-5]: item for (name, _), item in zip(data.samples, data)}
    np.testing.assert_array_equal(pixels(found["3"]), np.asarray(picture(3)))


def test_one_option_reads_ilsvrc_for_training_and_validation(flat):
    write_map(flat)
    cfg = option(flat, "ilsvrc")
    assert cfg.model.num_classes == 3 and cfg.val_dataloader.dataset.classes == sorted(SYNSETS.values())
    TASK.check_data(cfg)
    sets = [TASK.build_dataset(cfg, split) for split in ("train", "val")]
    assert [len(data) for data in sets] == [3, 4] and sets[0].classes == sets[1].classes


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("2\n1\n3\n", "3 labels, and .*val 4 images"),
        ("2\n1\n9\n2\n", r"ground_truth\.txt, line 3: label '9'; allowed: the devkit's ids 1 to 3"),
    ],
)
def test_mistakes_in_the_devkits_labels_are_named(lines, message, flat):
    write_map(flat)
    (flat / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    with pytest.raises(UserError, match=message):
        IlsvrcImages(flat, "val", WHOLE)


def test_mistakes_in_lists_of_names_are_named(flat):
    write_indices(flat)
    text = (flat / "val.txt").read_text()
    with pytest.raises(UserError, match=r"no labels of the validation images in .*val\.txt"):
        (flat / "val.txt").unlink()
        IlsvrcImages(flat, "val", WHOLE)
    for content, message in (
        (text.replace("3.png 1", "3.png 7"), r"val\.txt, line 3: label 7; allowed: 0 to 2"),
        (text.replace("3.png 1", "3.png"), r"val\.txt, line 3: 'ILSVRC2012_val_00000003\.png'"),
        (text.replace("3.png 1", "5.png 1"), r"images without a label: ILSVRC2012_val_00000003\.png"),
    ):
        (flat / "val.txt").write_text(content)
        with pytest.raises(UserError, match=message):
            IlsvrcImages(flat, "val", WHOLE)
    for image in (flat / "val").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"no images in .*val"):
        IlsvrcImages(flat, "val", WHOLE)


# --- CSV


def write_table(root, name, text):
    for i in range(4):
        picture(i).save(root / f"{i}.png")
    (root / f"{name}.csv").write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [
        ("path,label\n0.png,cat\n1.png,ant\n", ["ant", "cat"], [1, 0]),
        ("0.png,2\n1.png,0\n", ["0", "1", "2"], [2, 0]),
        ('\ufefflabel,taken,path\n"a,b",2020,0.png\n\n c ,2021, 1.png\n', ["a,b", "c"], [0, 1]),
    ],
)
def test_tables_of_paths_and_labels(text, classes, labels, tmp_path):
    data = CsvImages(write_table(tmp_path, "train", text), "train", WHOLE)
    assert data.classes == classes and [item["data_samples"] for item in data] == labels
    np.testing.assert_array_equal(pixels(data[1]), np.asarray(picture(1)))
    given = CsvImages(tmp_path, "train.csv", WHOLE, classes=classes[::-1], skip_others=True)
    assert len(given) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.png,cat\n1.png\n", r"train\.csv, line 2: '1\.png'; allowed: a path and a label"),
        ("path,label\n", "has no rows"),
        ("0.png,0\n1.png,-1\n", "label -1; allowed: 0 for the first class"),
    ],
)
def test_mistakes_in_tables_are_named(text, message, tmp_path):
    with pytest.raises(UserError, match=message):
        CsvImages(write_table(tmp_path, "train", text), "train", WHOLE)


def test_labels_of_a_table_that_are_no_class_of_training(tmp_path):
    root = write_table(tmp_path, "train", "0.png,0\n1.png,1\n")
    (root / "val.csv").write_text("2.png,1\n3.png,2\n")
    cfg = option(root, "csv")
    assert cfg.model.num_classes == 2
    TASK.check_data(cfg, ("train",))
    with pytest.raises(UserError, match=r"val\.csv, line 2: label '2' is no class; allowed: 0, 1"):
        TASK.check_data(cfg)
    (root / "val.csv").write_text("2.png,1\n3.png,zebra\n")
    with pytest.raises(UserError, match=r"val\.csv, line 2: label 'zebra' is no class"):
        TASK.check_data(cfg)
    (root / "val.csv").unlink()
    with pytest.raises(UserError, match=r"no table .*val\.csv"):
        TASK.check_data(cfg)


# --- CIFAR


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its texts, which are the keys and names in the authors' files."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2(content):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")  # as NumPy called it then


def write_cifar(root, kind):
    """Files in the authors' layout, with 2 images in each."""
    ten = kind == 10
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    folder.mkdir(parents=True)
    names = [b"name_%d" % i for i in range(kind)]
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if ten else ["train", "test"]
    for i, file in enumerate(files):
        data = np.random.default_rng(i).integers(0, 256, (2, 3072), np.uint8)
        content = {b"data": data, b"labels" if ten else b"fine_labels": [i, i + 3]}
        (folder / file).write_bytes(python2(content))
    meta = {b"label_names" if ten else b"fine_label_names": names}
    (folder / ("batches.meta" if ten else "meta")).write_bytes(python2(meta))
    return folder


@pytest.mark.parametrize("kind", [10, 100])
@pytest.mark.parametrize("split", ["train", "val"])
def test_cifar_is_that_of_torchvision(kind, split, tmp_path, monkeypatch):
    folder = write_cifar(tmp_path, kind)
    reference = torchvision.datasets.CIFAR10 if kind == 10 else torchvision.datasets.CIFAR100
    monkeypatch.setattr(reference, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    theirs = reference(tmp_path, train=split == "train")
    for root in (tmp_path, folder):
        ours = CifarImages(root, split, dict(input_size=32, crop_pct=1.0))
        assert ours.classes == theirs.classes and len(ours) == len(theirs)
        for item, (image, label) in zip(ours, theirs):
            np.testing.assert_array_equal(pixels(item), np.asarray(image))
            assert item["data_samples"] == label


def test_cifar_by_one_option(tmp_path):
    write_cifar(tmp_path, 100)
    cfg = option(tmp_path, "cifar", classes=["name_3", "name_0"])
    assert cfg.model.num_classes == 2
    assert TASK.build_dataset(cfg, "train")[0]["data_samples"] == 1  # name_0 is the second one now


class Hostile:
    def __reduce__(self):
        return print, ("code ran",)


def test_files_of_cifar_run_no_code_and_mistakes_are_named(tmp_path, capsys):
    folder = write_cifar(tmp_path, 10)
    good = (folder / "data_batch_3").read_bytes()
    for content, message in (
        (pickle.dumps(Hostile()), "data_batch_3 is no file of CIFAR: it asks for builtins.print"),
        (good[:100], "data_batch_3 is no file of CIFAR"),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}),
            "image 1: label 10; allowed: 0 to 9",
        ),
        (
            pickle.dumps({b"data": np.zeros((2, 30), np.uint8), b"labels": [0, 1]}),
            r"data_batch_3: data uint8 \(2, 30\)",
        ),
    ):
        (folder / "data_batch_3").write_bytes(content)
        with pytest.raises(UserError, match=message):
            CifarImages(tmp_path, "train", WHOLE)
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="no CIFAR files in"):
        CifarImages(tmp_path / "nowhere", "train", WHOLE)


# --- tar shards


def encoded(image, kind="png", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def write_shard(path, samples):
    """A tar file of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    pytest.importorskip("webdataset")
    for shard in range(3):
        samples = []
        for i in range(4):
            n = 4 * shard + i
            label = (
                (f"{n:03}.cls", b"%d" % (n % 3)) if n % 2 else (f"{n:03}.json", json.dumps({"label": n % 3}).encode())
            )
            samples += [(f"{n:03}.png", encoded(picture(n))), label]
        write_shard(tmp_path / f"train/{shard:04}.tar", samples)
    return tmp_path


@pytest.mark.parametrize("folder", ["train", "train/{0000..0002}.tar", "train/*.tar"])
def test_shards_hold_the_samples_of_webdatasets_own_stream(folder, shards):
    import webdataset

    stream = webdataset.WebDataset(str(shards / "train/{0000..0002}.tar"), shardshuffle=False).decode("rgb8")
    data = ShardImages(shards, folder, WHOLE)
    assert data.classes == ["0", "1", "2"] and len(data) == 12
    for item, theirs in zip(data, stream, strict=True):
        np.testing.assert_array_equal(pixels(item), theirs["png"])
        assert item["data_samples"] == (theirs["cls"] if "cls" in theirs else theirs["json"]["label"])


def test_the_index_of_shards_is_kept_until_they_change(shards, monkeypatch):
    ShardImages(shards, "train", WHOLE)
    with monkeypatch.context() as patch:
        patch.setattr("classification.data.shard_index.build_index", lambda _: pytest.fail("indexed again"))
        assert len(ShardImages(shards, "train", WHOLE)) == 12
    for kept in (shards / "hub/ziggurat_shards").iterdir():
        kept.write_bytes(kept.read_bytes()[:99])
    assert len(ShardImages(shards, "train", WHOLE)) == 12
    write_shard(shards / "train/0001.tar", [("a.png", encoded(picture(0))), ("a.cls", b"1")])
    assert len(ShardImages(shards, "train", WHOLE)) == 9


def test_two_processes_with_two_workers_see_each_image_once(shards):
    from torch.utils.data import DataLoader, DistributedSampler

    data = ShardImages(shards, "train", WHOLE)
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(data, num_replicas=2, rank=rank, shuffle=True, seed=3)
        for batch in DataLoader(data, batch_size=2, sampler=sampler, num_workers=2):
            seen += [image.numpy().tobytes() for image in batch["inputs"].permute(0, 2, 3, 1)]
    assert sorted(seen) == sorted(np.asarray(picture(n)).tobytes() for n in range(12))


def test_shards_by_one_option_with_names(shards):
    (shards / "classes.txt").write_text("ant\nbee\ncow\n")
    write_shard(shards / "validation/0.tar", [("a.png", encoded(picture(0))), ("a.cls", b"2")])
    cfg = option(shards, "shards")
    assert cfg.model.num_classes == 3 and cfg.val_dataloader.dataset.classes == ["ant", "bee", "cow"]
    TASK.check_data(cfg)
    some = ShardImages(shards, "train", WHOLE, classes=["cow", "ant"], skip_others=True)
    assert [item["data_samples"] for item in some] == [1, 0] * 4  # ant and cow are 0 and 2 of 0, 1, 2, 0, ...
    write_shard(shards / "validation/0.tar", [("a.png", encoded(picture(0))), ("a.cls", b"3")])
    with pytest.raises(UserError, match=r"0\.tar/a: label 3; allowed: 0 to 2, since there are 3 classes"):
        TASK.check_data(cfg)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.8, 0.9])
def test_a_shard_cut_short_is_named(share, shards):
    path = shards / "train/0001.tar"
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    path.write_bytes(content[: int(end * share)])
    with pytest.raises(UserError, match=r"shard .*: .*train.0001\.tar"):
        ShardImages(shards, "train", WHOLE)


def test_a_shard_cut_between_two_files_is_named(shards):
    path = shards / "train/0002.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(UserError, match=r"shard is cut short: .*train.0002\.tar .* 7 whole files"):
        ShardImages(shards, "train", WHOLE)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (("a.cls", b"cat"), r"0\.tar/a\.cls: 'cat'; allowed: a class index"),
        (("a.json", b'{"name": 3}'), r"0\.tar/a\.json: .*allowed: a class index"),
        (("a.txt", b"cat"), r"0\.tar/a has no label"),
        (("b.cls", b"0"), r"0\.tar/a has no label"),
    ],
)
def test_labels_in_shards_that_are_none_are_named(label, message, tmp_path):
    pytest.importorskip("webdataset")
    write_shard(tmp_path / "train/0.tar", [("a.png", encoded(picture(0))), label])
    with pytest.raises(UserError, match=message):
        ShardImages(tmp_path, "train", WHOLE)


def test_shards_that_are_not_there(tmp_path):
    pytest.importorskip("webdataset")
    for folder, message in (
        ("train", r"no shards in .*allowed: train/\*\.tar, \*train\*\.tar"),
        ("train-{0..1}.tar", "no such shards: .*train-0.tar, .*train-1.tar"),
        ("https://host/{0..1}.tar", "allowed: files on this machine"),
        ("train.tar.gz", "compressed"),
        ("train-{0..1.tar", "unbalanced braces"),
        (f"{tmp_path}/other-*.tar", r"no shards in /; allowed: .*other-\*\.tar"),
    ):
        with pytest.raises(UserError, match=message):
            ShardImages(tmp_path, folder, WHOLE)
    (tmp_path / "train.tar").write_text("no tar file")
    with pytest.raises(UserError, match=r"train\.tar"):
        ShardImages(tmp_path, "train", WHOLE)


# --- Hugging Face


@pytest.fixture
def hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def table(count):
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["ant", "bee"]))
        images = [{"bytes": encoded(picture(i)), "path": None} for i in range(count)]
        return datasets.Dataset.from_dict({"image": images, "label": [i % 2 for i in range(count)]}, features)

    datasets.DatasetDict(train=table(5), validation=table(2)).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_set_of_hugging_face_by_one_option(hub):
    cfg = option(hub, "hub")
    assert cfg.model.num_classes == 2 and cfg.val_dataloader.dataset.classes == ["ant", "bee"]
    TASK.check_data(cfg)
    assert [len(TASK.build_dataset(cfg, split)) for split in ("train", "val")] == [5, 2]
    data = HubImages(str(hub), "train", WHOLE)
    assert [item["data_samples"] for item in data] == [0, 1, 0, 1, 0]
    for i in range(5):
        np.testing.assert_array_equal(pixels(data[i]), np.asarray(picture(i)))
    bees = HubImages(str(hub), "train", WHOLE, classes=["bee"], skip_others=True)
    assert len(bees) == 2 and bees[1]["data_samples"] == 0
    np.testing.assert_array_equal(pixels(bees[1]), np.asarray(picture(3)))


def test_a_folder_of_images_as_hugging_face_reads_it(hub, tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "plain/train" / name).mkdir(parents=True)
        picture(len(name)).save(tmp_path / "plain/train" / name / "0.png")
    data = HubImages(str(tmp_path / "plain"), "train", WHOLE)
    assert data.classes == ["ant", "bee"] and len(data) == 2
    np.testing.assert_array_equal(pixels(data[0]), np.asarray(picture(3)))


def test_every_format_reads_by_the_rule(tmp_path, monkeypatch):
    """A picture that cannot be seen through is as it is, one that can is the ground."""
    datasets, _ = pytest.importorskip("datasets"), pytest.importorskip("webdataset")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    glass = encoded(Image.new("RGBA", (40, 40), (200, 100, 0, 0)))
    (tmp_path / "train/a").mkdir(parents=True)
    (tmp_path / "train/a/x.png").write_bytes(glass)
    (tmp_path / "train.csv").write_text("train/a/x.png,a\n")
    write_shard(tmp_path / "tars/train.tar", [("x.png", glass), ("x.cls", b"0")])
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a"]))
    rows = {"image": [{"bytes": glass, "path": None}], "label": [0]}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features)).save_to_disk(tmp_path / "saved")
    places = ((ImageFolder, "."), (CsvImages, "."), (ShardImages, "tars"), (HubImages, "saved"))
    for kind, place in places:
        for in_memory in (False, True):
            found = kind(str(tmp_path / place), "train", WHOLE, in_memory=in_memory, reading=dict(alpha=(1, 2, 3)))
            assert (pixels(found[0]) == (1, 2, 3)).all(), kind
            assert (pixels(kind(str(tmp_path / place), "train", WHOLE)[0]) == (200, 100, 0)).all(), kind


def test_mistakes_with_sets_of_hugging_face_are_named(hub, tmp_path):
    for arguments, message in (
        ((str(tmp_path / "nowhere"), "train"), "data set .*nowhere cannot be loaded"),
        ((str(hub), "extra"), "unknown split of .*saved 'extra'; allowed: train, validation"),
    ):
        with pytest.raises(UserError, match=message):
            HubImages(*arguments, WHOLE)
    with pytest.raises(UserError, match=r"unknown column of .*'caption'; allowed: image, label"):
        HubImages(str(hub), "train", WHOLE, label="caption")


# --- what they share


def test_every_layout_has_the_same_decoder(tmp_path):
    """16 bits, one channel, a palette, and a photograph that its EXIF data turn."""
    pytest.importorskip("webdataset")
    datasets = pytest.importorskip("datasets")
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 1 << 16, (40, 40), np.uint16))
    files = {
        "turned.jpg": encoded(picture(1), "jpeg", exif=turned),
        "deep.png": encoded(deep),
        "grey.png": encoded(picture(2).convert("L")),
        "palette.png": encoded(picture(3).convert("P")),
    }
    (tmp_path / "train/a").mkdir(parents=True)
    (tmp_path / "train.csv").write_text("".join(f"train/a/{name},a\n" for name in files))
    for name, content in files.items():
        (tmp_path / "train/a" / name).write_bytes(content)
    members = list(files.items())
    write_shard(tmp_path / "train.tar", sorted(members + [(f"{name[:-4]}.cls", b"0") for name in files]))
    rows = {"image": [{"bytes": content, "path": None} for content in files.values()], "label": [0] * 4}
    kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a"]))
    datasets.Dataset.from_dict(rows, kinds).save_to_disk(tmp_path / "hub")
    expected = {name: np.asarray(read_image(tmp_path / "train/a" / name)) for name in files}
    for data in (
        ImageFolder(tmp_path, "train", WHOLE),
        CsvImages(tmp_path, "train", WHOLE),
        ShardImages(tmp_path, "train.tar", WHOLE),
        HubImages(str(tmp_path / "hub"), "train", WHOLE),
    ):
        found = sorted(pixels(item).tobytes() for item in data)
        assert found == sorted(image.tobytes() for image in expected.values()), type(data)


def test_a_wrong_argument_is_named(tmp_path):
    root = write_table(tmp_path, "train", "0.png,0\n1.png,1\n")
    (root / "val.csv").write_text("2.png,1\n")
    cfg = option(root, "csv", **{"train_dataloader.dataset.in_memry": True})
    with pytest.raises(UserError, match=r"unknown argument of CsvImages 'in_memry'; .*in_memory"):
        build_training(cfg, work_dir=tmp_path / "run", device="cpu")


@pytest.mark.parametrize("package", ["webdataset", "datasets"])
def test_an_absent_package_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    kind = ShardImages if package == "webdataset" else HubImages
    with pytest.raises(UserError, match=f"pip install {package}"):
        kind(str(tmp_path), "train", WHOLE)


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(UserError, match=r"unknown data_format 'zip'; allowed: .*csv"):
        option(tmp_path, "zip")


@pytest.mark.parametrize("kind", ["folders", "ilsvrc", "csv", "cifar", "shards"])
def test_a_config_without_its_data_can_be_read(kind, tmp_path):
    cfg = option(tmp_path / "nowhere", kind)
    assert cfg.model.num_classes == 10
    assert DATASETS.get(f"mmengine.{cfg.train_dataloader.dataset.type}")
    with pytest.raises(UserError, match="nowhere"):
        TASK.check_data(cfg)


def test_a_table_with_other_columns_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("filename,class\na.png,cat\n")
    with pytest.raises(UserError, match=r"train\.csv, line 1: columns filename,class; allowed: path,label"):
        CsvImages(str(tmp_path), "train")


def named(data):
    """Name of an image -> name of its class."""
    return {data.samples[i][0].rpartition(":")[2]: data.classes[data.samples[i][1]] for i in range(len(data))}


def numbered_table(root):
    write_table(root, "val", "0.png,2\n1.png,0\n2.png,1\n3.png,2\n")
    return CsvImages, root


def worded_table(root):
    write_table(root, "val", "0.png,cow\n1.png,ant\n2.png,bee\n3.png,cow\n")
    return CsvImages, root


def class_folders_of(root):
    for i, name in enumerate(("ant", "bee", "cow", "ant")):
        (root / "val" / name).mkdir(parents=True, exist_ok=True)
        picture(i).save(root / "val" / name / f"{i}.png")
    return ImageFolder, root


def numbered_shards(root):
    pytest.importorskip("webdataset")
    samples = [
        (f"{i}.{end}", content)
        for i in range(6)
        for end, content in (("png", encoded(picture(i))), ("cls", b"%d" % (i % 3)))
    ]
    write_shard(root / "val/0000.tar", samples)
    return ShardImages, root


def named_shards(root):
    (root / "classes.txt").write_text("cow\nant\nbee\n")
    return numbered_shards(root)


def cifar_of(root):
    return CifarImages, write_cifar(root, 10)


@pytest.mark.parametrize(
    "make", [class_folders_of, numbered_table, worded_table, cifar_of, numbered_shards, named_shards]
)
@pytest.mark.parametrize("order", [1, -1])
def test_chosen_classes_keep_their_images(make, order, tmp_path):
    """In any order, a choice of classes leaves the other images out and changes the class of none."""
    kind, root = make(tmp_path)
    whole = kind(root, "val", WHOLE)
    there = sorted(set(named(whole).values()))
    chosen = there[1:3][::order] or there
    part = kind(root, "val", WHOLE, classes=chosen, skip_others=True)
    assert part.classes == chosen
    assert named(part) == {image: name for image, name in named(whole).items() if name in chosen}
    again = kind(root, "val", WHOLE, classes=whole.classes[::-1])
    assert named(again) == named(whole)


@pytest.mark.parametrize("write", [write_map, write_mat, write_kaggle, write_indices, write_names])
@pytest.mark.parametrize("order", [1, -1])
def test_chosen_classes_of_a_flat_folder_keep_their_images(write, order, flat):
    labels = write(flat) or {}
    whole = IlsvrcImages(flat, "val", WHOLE, **labels)
    chosen = whole.classes[1:][::order]
    part = IlsvrcImages(flat, "val", WHOLE, classes=chosen, skip_others=True, **labels)
    assert named(part) == {name: label for name, label in named(whole).items() if label in chosen}
    assert named(IlsvrcImages(flat, "val", WHOLE, classes=whole.classes[::-1], **labels)) == named(whole)
