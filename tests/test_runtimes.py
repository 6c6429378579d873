"""Predictions and features by exported files and by other runtimes are those of PyTorch.

The files of PyTorch stand for all others here: they need no further package. ONNX Runtime and OpenVINO are run where
they are installed.
"""

import json
import re

import extract_features
import numpy as np
import predict
import pytest
import small_heads
import torch
import torch.nn.functional as F
from helpers import run, trained_norms
from PIL import Image

from backbones import FeatureExtractor, UserError
from backbones.export import FORMATS, Description, Extent, prepared, record, runtimes, write
from backbones.export.exported import Exported
from backbones.export.runtimes import RUNTIMES, InRuntime, check_data, parts_of
from backbones.files import EXPORTED
from backbones.weights import own_meta
from ziggurat.engine import Predictor, tool_options
from ziggurat.engine.config import load_config
from ziggurat.engine.exporting import backbone_subject, subject_of

DIGITS = "classification/configs/demo/van_b0_digits.py"
IMAGES = [small_heads.image_of(48, 64), small_heads.image_of(64, 48, 1), small_heads.image_of(96, 96, 2)]


@pytest.fixture(scope="module", autouse=True)
def by_pytorch(shallow_van):
    """PyTorch's own files as a third runtime, and VAN-B0 with one block a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RUNTIMES, "pt2", "pt2")
        yield


def saved(cfg, task, names, path):
    """A checkpoint of a random network, as a training leaves it."""
    torch.manual_seed(0)
    model = small_heads.built(cfg)
    trained_norms(model.backbone)
    own = own_meta(model, None, None, task=task, classes=names, config=cfg.to_dict())
    torch.save({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, path)
    return path


def export_to(path, subject, extent):
    """A file of the subject by the suffix of ``path``, without the tool's comparison and times."""
    name = next(name for name, of in FORMATS.items() if path.suffix == of.suffix)
    net = prepared(subject.net, free="size" in extent.free)
    write(record(net, extent), name, path, subject.describe(extent, "float32", True))
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory, request):
    """The checkpoints of a classifier and a segmenter, and the folder."""
    import os

    os.chdir(request.config.rootpath)
    folder = tmp_path_factory.mktemp("models")
    cfg = load_config(DIGITS, {"data_root": str(folder)})
    saved(cfg, "classification", [f"a {i}" for i in range(10)], folder / "classifier.pth")
    cfg = small_heads.config_of("segmentation", *small_heads.SEGMENTERS["upernet"])
    for step in cfg.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step.scale = (96, 64)
    saved(cfg, "segmentation", small_heads.CLASSES["segmentation"], folder / "segmenter.pth")
    return folder


@pytest.fixture(scope="module")
def classifier(models):
    """The classifier as a file for one image, and as one for any number."""
    subject = subject_of(Predictor(models / "classifier.pth"), "digits")
    export_to(models / "one.torchscript", subject, Extent(subject.size))
    return export_to(models / "any.pt2", subject, Extent(subject.size, 1, ("batch",)))


@pytest.fixture(scope="module")
def backbone(models):
    torch.manual_seed(0)
    subject = backbone_subject("van_b0", None, out_indices=(1, 3))
    return export_to(models / "backbone.torchscript", subject, Extent((64, 96)))


def assert_scores(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.names == other.names
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-6)


def assert_maps(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.names == other.names and one.class_map.dtype == other.class_map.dtype
        assert one.class_map.shape == other.class_map.shape
        assert (one.class_map == other.class_map).mean() > 0.999 and len(np.unique(one.class_map)) > 1


def test_names_of_suffixes_and_runtimes_are_those_of_the_formats():
    assert set(EXPORTED) == {of.suffix for of in FORMATS.values()}
    assert set(tool_options.RUNTIMES) == set(RUNTIMES) - {"pt2"}


@pytest.mark.parametrize("file", ["one.torchscript", "any.pt2"])
@pytest.mark.parametrize("tta", [False, "flip"])
def test_a_file_alone_classifies(models, classifier, file, tta):
    """Whatever the batch of the file and of the predictor."""
    theirs = Predictor(models / "classifier.pth", batch_size=2, tta=tta)
    ours = Predictor(models / file, batch_size=2, tta=tta)
    assert_scores(ours(IMAGES), theirs(IMAGES))
    assert ours.names == theirs.names and ours.reading == theirs.reading


def test_a_runtime_segments_images_of_any_size(models):
    """By one export, with three sizes of images after preprocessing, and two images of one size together."""
    theirs = Predictor(models / "segmenter.pth", batch_size=2)
    ours = Predictor(models / "segmenter.pth", batch_size=2, runtime="pt2")
    assert ours.model.files.whole is not None
    images = [*IMAGES, IMAGES[0][::-1]]
    assert_maps(ours(images), theirs(images))


class Scaled(torch.nn.Module):
    """A toy network: a convolution times a number, by default the height, which no exporter may take for a constant."""

    def __init__(self, number=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.number = torch.nn.Conv2d(3, 4, 3), number

    def forward(self, x):
        return self.conv(x) * (x.shape[2] if self.number is None else self.number)


def described_as_toy(extent, outputs=("a",)):
    return Description("toy", "toy", outputs, *extent, "float32", (0.5,), (0.5,), "", None)


@pytest.mark.parametrize("fault", ["none", "refused", "wrong"])
def test_a_network_that_no_exporter_frees_has_a_file_for_each_size(fault, monkeypatch):
    """Whether recording refuses, or the file for free sizes has a constant that is right for one size alone."""

    def recorded(net, extent):
        if "size" in extent.free and fault == "refused":
            raise UserError("refused")
        is_wrong = "size" in extent.free and fault == "wrong"
        return record(Scaled(extent.size[0]).eval() if is_wrong else net, extent)

    monkeypatch.setattr(runtimes, "record", recorded)
    monkeypatch.setattr(runtimes, "KEPT", 2)
    net = Scaled().eval()
    files = InRuntime(net, "pt2", described_as_toy, Extent((32, 40), 1, ("batch", "size")))
    assert (files.whole is None) == (fault != "none")
    sizes = [(32, 40), (40, 32), (48, 48)]
    for size in sizes:
        image = torch.randn(2, 3, *size)
        (part, (ours,)), *rest = parts_of(files(size), image)
        assert part == slice(0, 2) and not rest
        torch.testing.assert_close(ours, net(image))
        assert files(size) is files(size)
    assert list(files.sizes) == (sizes[1:] if fault != "none" else []), "those used last are kept"


def test_a_runtime_with_other_values_is_refused(monkeypatch):
    monkeypatch.setattr(runtimes, "record", lambda net, extent: record(Scaled(1).eval(), extent))
    with pytest.raises(UserError, match=r"PyTorch computes other values than PyTorch: .*; allowed: 0.001 and 0.0001"):
        InRuntime(Scaled().eval(), "pt2", described_as_toy, Extent((32, 40)))


def test_a_file_of_one_size_pads_smaller_images_and_shrinks_larger_ones(models, monkeypatch):
    """The class map is that of PyTorch for the image which was padded by hand."""
    predictor = Predictor(models / "segmenter.pth")
    subject = subject_of(predictor, "scenes")
    path = export_to(models / "square.torchscript", subject, Extent((96, 96)))
    seen, ours = [], Predictor(path)
    file = ours.model.files(None)
    monkeypatch.setattr(file, "run", lambda x, right=file.run: seen.append(x) or right(x))
    found = ours(IMAGES[0])
    (x,) = seen  # the image after preprocessing is 64 x 96
    assert x.shape == (1, 3, 96, 96) and not x[:, :, 64:].any() and x[:, :, 63].any()
    with torch.no_grad():
        scores = F.interpolate(subject.net(x), (96, 96), mode="bilinear")[:, :, :64]
        wanted = F.interpolate(scores, IMAGES[0].shape[:2], mode="bilinear").argmax(1)[0]
    assert (found.class_map == wanted.numpy()).mean() > 0.999
    large = Predictor(path, cfg_options={"test_dataloader.dataset.pipeline.1.scale": (256, 256)})
    assert large(IMAGES[2]).class_map.shape == (96, 96)


class Objects(torch.nn.Module):
    """A toy detector: five objects, whose scores are the mean of the image."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        level = x.mean() * self.weight
        return level * torch.ones(5, 4), level * torch.ones(5), torch.arange(5)


def test_outputs_of_one_image_at_a_time_need_no_axis_of_images(tmp_path, monkeypatch):
    extent, path = Extent((32, 32)), tmp_path / "objects.torchscript"
    write(
        record(Objects().eval(), extent), "torchscript", path, described_as_toy(extent, ("boxes", "scores", "labels"))
    )
    monkeypatch.setattr(Exported, "__call__", lambda self, x: tuple(self.run(x)))
    images = torch.stack([torch.full((3, 32, 32), value) for value in (1.0, 2.0)])
    parts = list(parts_of(Exported(path), images))
    assert [part for part, _ in parts] == [slice(0, 1), slice(1, 2)]
    for value, (_, (boxes, scores, labels)) in zip((1.0, 2.0), parts, strict=True):
        assert boxes.shape == (5, 4) and torch.equal(scores, torch.full((5,), value))
        assert torch.equal(labels, torch.arange(5))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_of_any_number_goes_through_a_file_of_another(batch, tmp_path):
    extent, path, net = Extent((32, 32), batch), tmp_path / "x.torchscript", Scaled().eval()
    write(record(net, extent), "torchscript", path, described_as_toy(extent))
    images = torch.randn(4, 3, 32, 32)
    found = [outputs[0] for _, outputs in parts_of(Exported(path), images)]
    torch.testing.assert_close(torch.cat(found), net(images).detach())


def test_a_file_and_a_runtime_give_the_maps(backbone):
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    torch.manual_seed(0)
    theirs = FeatureExtractor("van_b0", out_indices=(1, 3))
    file = FeatureExtractor(backbone)
    torch.manual_seed(0)
    runtime = FeatureExtractor("van_b0", out_indices=(1, 3), runtime="pt2")
    for ours in (file, runtime):
        assert ours.feature_info == theirs.feature_info and ours.net.out_indices == (1, 3)
        assert ours.statistics == theirs.statistics and ours.reading == theirs.reading
        for a, b in zip(ours([image, image]), theirs([image, image]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    small = image[:40, :56]
    for a, b in zip(runtime([image, small]), theirs([image, small]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"input has shape \(1, 3, 40, 56\); allowed: \(1, 3, 64, 96\)"):
        file(small)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": "tensorrt"}, "runtime is 'tensorrt'; allowed: None, onnxruntime, openvino"),
        ({"runtime": "onnxruntime", "device": "meta"}, "runtime onnxruntime computes on the CPU; allowed: cpu"),
        ({"runtime": "onnxruntime"}, 'needs onnx, onnxscript, onnxruntime, not installed here; pip install "ziggurat'),
    ],
)
def test_a_runtime_that_cannot_be_is_named_before_weights_are_read(options, words, monkeypatch):
    monkeypatch.setattr("backbones.export.formats.importlib.util.find_spec", lambda name: None)
    for made in (lambda: Predictor("absent.pth", **options), lambda: FeatureExtractor("van_b0", **options)):
        with pytest.raises(UserError, match=re.escape(words)):
            made()


def test_mistakes_with_files_are_one_line(models, classifier, backbone):
    mistakes = {
        r"holds a backbone; allowed: an export of a whole model": lambda: Predictor(backbone),
        r"holds a whole model of classification; allowed: an export of a backbone": lambda: FeatureExtractor(
            classifier
        ),
        r"is an exported file, which has its weights and its config": lambda: Predictor(classifier, "x.pth"),
        r"runtime is 'openvino'; allowed for .*any\.pt2: None": lambda: Predictor(classifier, runtime="openvino"),
        r"device is meta, and exported files are computed on the CPU": lambda: Predictor(classifier, device="meta"),
        r"option model\.num_classes would change the network": lambda: Predictor(
            classifier, cfg_options=["model.num_classes=3"]
        ),
        r"out_indices is \(0,\), and .* is exported already": lambda: FeatureExtractor(backbone, out_indices=(0,)),
        r"fuse is False, and .* is exported already; allowed: without fuse": lambda: FeatureExtractor(
            backbone, fuse=False
        ),
        r"fuse is True, and .* is exported already": lambda: FeatureExtractor(backbone, fuse=True),
        r"pretrained is 'x\.pth', and .* is exported already": lambda: FeatureExtractor(backbone, pretrained="x.pth"),
        r"dtype is torch\.float16, and": lambda: FeatureExtractor(backbone, dtype=torch.float16),
        r"no such exported file: absent\.onnx": lambda: Predictor("absent.onnx"),
        r"tile or tta is given": lambda: Predictor(models / "segmenter.pth", tile=64, runtime="pt2"),
        r"model\.test_cfg\.mode is 'slide'": lambda: Predictor(
            models / "segmenter.pth",
            runtime="pt2",
            cfg_options={"model.test_cfg": dict(mode="slide", crop_size=(32, 32), stride=(16, 16))},
        ),
    }
    for words, made in mistakes.items():
        with pytest.raises(UserError, match=words):
            made()


def written_by_somebody(path, **changes):
    """A file of PyTorch with a description of somebody's making."""
    described = Description(
        "classification", "van_b0", ("scores",), (48, 48), 1, (), 3, "float32", (0.5,) * 3, (0.5,) * 3, "", None
    )
    content = described.as_dict() | changes
    traced = torch.jit.trace(torch.nn.Flatten(), torch.ones(1, 3, 48, 48))
    torch.jit.save(traced, path, _extra_files={"ziggurat.json": json.dumps(content)})
    return path


def test_a_foreign_file_runs_no_code_of_its_config(models, classifier, tmp_path, monkeypatch):
    described = Exported(classifier).description
    right, path = dict(described.config), tmp_path / "foreign.torchscript"
    hostile = {
        "custom_imports": {"imports": ["os"]},
        "model": right["model"] | {"type": "os.system"},
        "test_dataloader": {"dataset": {"type": "ImageFolder", "transform": {"type": "subprocess.run"}}},
    }
    for name, value in hostile.items():
        written_by_somebody(path, config=right | {name: value}, classes=list(described.classes))
        with pytest.raises(UserError, match=r"foreign\.torchscript"):
            Predictor(path)
    for changes in ({"config": {}}, {"config": 3}, {"mean": "x"}, {"size": [1, 2, 3]}, {"kind": None}):
        with pytest.raises(UserError, match=r"foreign\.torchscript"):
            Predictor(written_by_somebody(path, **changes))
    with pytest.raises(UserError, match="is of float16; allowed: an export of float32"):
        Predictor(written_by_somebody(path, dtype="float16"))
    monkeypatch.setenv("ZIGGURAT_SAFE", "1")
    with pytest.raises(UserError, match=r"is a program of PyTorch; allowed with --safe .*: \.onnx, \.xml"):
        Predictor(classifier)
    with pytest.raises(UserError, match="is a program of PyTorch"):
        FeatureExtractor(classifier)
    check_data("DATA.ONNX")


def test_tools_take_files_and_runtimes(models, classifier, backbone, tmp_path, monkeypatch, capsys):
    Image.fromarray(IMAGES[0]).resize((96, 64)).save(tmp_path / "ü 1.png")
    argv = [models / "one.torchscript", tmp_path / "ü 1.png", "--out", tmp_path / "out"]
    status, out, err = run(predict, argv, monkeypatch, capsys)
    assert (status, err) == (0, "") and "1 of 1 images" in out
    again = [models / "any.pt2", *argv[1:]]
    assert "has predictions with weights" in run(predict, again, monkeypatch, capsys)[2]
    argv = [backbone, tmp_path / "ü 1.png", "--out", tmp_path / "maps"]
    status, out, err = run(extract_features, argv, monkeypatch, capsys)
    assert (status, err) == (0, "") and "1 of 1 images" in out
    with np.load(tmp_path / "maps/ü 1.npz") as maps:
        assert set(maps) == {"stage1", "stage3"}
    argv = [backbone, tmp_path / "ü 1.png", "--runtime", "onnxruntime", "--out", tmp_path / "other"]
    assert "allowed for" in run(extract_features, argv, monkeypatch, capsys)[2]


# --- with ONNX Runtime and OpenVINO, where they are installed


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_other_runtimes_predict_as_pytorch(models, runtime):
    for package in FORMATS[RUNTIMES[runtime]].packages:
        pytest.importorskip(package)
    for name, same in (("classifier", assert_scores), ("segmenter", assert_maps)):
        theirs = Predictor(models / f"{name}.pth", batch_size=2)
        ours = Predictor(models / f"{name}.pth", batch_size=2, runtime=runtime)
        same(ours(IMAGES), theirs(IMAGES))
