"""Exported files compute what the network computes, say what they hold, and are not kept if they are wrong.

pt2 and TorchScript need PyTorch alone. ONNX and OpenVINO are run where they are installed.
"""

import contextlib
import json
import os
import signal
import time

import export
import exports_table
import pytest
import small_heads
import torch
import torch.nn.functional as F
from helpers import SMALL, run, trained_norms

from backbones import UserError, create_backbone, list_archs
from backbones.export import FORMATS, Description, Exported, Extent, errors_of, formats, prepared, record, write
from backbones.export import exported as exported_file
from backbones.export.comparison import shapes_of
from backbones.graph_layers import Grapher, GraphOptions
from backbones.ops import GlobalFilter, graph
from classification import create_classifier
from ziggurat.engine.leftovers import temporary_folder

# None of these is in an export for one size, whose tables are constants: runtimes have little float64, and no FFT.
ABSENT = ("float64", "aten.sin.", "aten.cos.", "fft")


@pytest.fixture
def small(tiny):
    """Makes a backbone with one block a stage, and norms as after a training."""
    return lambda arch, **kwargs: trained_norms(tiny(arch, **kwargs)).eval()


def description_of(net, extent):
    return Description("backbone", net.arch, ("a",), *extent, "float32", (0.5,) * 3, (0.5,) * 3, "given", None)


def exported(program, net, extent, name, folder):
    path = folder / f"x{FORMATS[name].suffix}"
    outputs = tuple(f"stage{i}" for i in net.out_indices)
    write(program, name, path, description_of(net, extent)._replace(outputs=outputs))
    return Exported(path)


def operations(program):
    """The names of a record's operations, and of the types of their results."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    types = {str(node.meta["val"].dtype) for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)}
    return {str(node.target) for node in nodes} | types


@pytest.mark.parametrize("arch", SMALL)
def test_files_of_pytorch_compute_the_maps(small, arch, tmp_path):
    """At the size of the file, and there alone."""
    net, image = prepared(small(arch, out_indices=(0, 1))), torch.randn(1, 3, 64, 96)
    extent = Extent((64, 96))
    program = record(net, extent)
    found = operations(program)
    assert not [name for name in found if any(word in name for word in ABSENT)], found
    for name in ("pt2", "torchscript") if arch == "van_b0" else ("pt2",):
        file = exported(program, net, extent, name, tmp_path)
        assert errors_of(file(image), net(image)).largest < 1e-5
        with pytest.raises(UserError, match=r"input has shape \(1, 3, 64, 64\); allowed: \(1, 3, 64, 96\)"):
            file(image[..., :64])


def test_rows_by_gathering_are_the_resized_ones():
    """Which an exported graph for free sizes computes, and eager PyTorch by ``F.interpolate``."""
    codes = torch.randn(49, 8).double()
    for count in (1, 7, 48, 49, 50, 97, 500):
        ours = graph.gathered_rows(codes, count)
        theirs = F.interpolate(codes.t()[None, :, :, None], (count, 1), mode="bicubic")[0, :, :, 0].t()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(graph.gathered_rows(codes.float(), count).double(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["graph", "filter"])
def test_a_record_for_free_sizes_has_what_runtimes_compute(layer):
    """Tables are computed in the network's type, without operations of a tensor and a free number."""
    layer = Grapher(8, 9, 1, GraphOptions(), 2, 14) if layer == "graph" else GlobalFilter(8, (14, 8))
    net = prepared(torch.nn.Sequential(layer), free=True)
    program = record(net, Extent((32, 40), 1, ("batch", "size"), channels=8))
    found = operations(program)
    assert not [name for name in found if any(word in name for word in ("float64", "fft", "remainder.Scalar"))], found
    for shape in ((1, 8, 32, 40), (3, 8, 36, 33)):
        image = torch.randn(shape)
        assert errors_of(program.module()(image), net(image)).mean < 1e-5


def test_a_classifier_is_exported_with_its_classes(tmp_path, monkeypatch, capsys, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    clf = trained_norms(create_classifier("van_b0", num_classes=1000)).eval()
    torch.save({"state_dict": clf.state_dict()}, tmp_path / "mine.pth")
    argv = [tmp_path / "mine.pth", "--format", "pt2", "--size", "64", "--repeats", "1", "--out", tmp_path / "out"]
    status, out, err = run(export, argv, monkeypatch, capsys)
    assert (status, err) == (0, "") and "mine.pt2" in out
    file = Exported(tmp_path / "out/mine.pt2")
    assert len(file.description.classes) == 1000 and file.description.kind == "classification"
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(file(image), clf(image), rtol=1e-3, atol=1e-4)
    beside = json.loads((tmp_path / "out/mine.pt2.json").read_text())
    assert beside["size"] == [64, 64] and beside["versions"]["torch"] == torch.__version__.split("+")[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.pt2", "mine.pt2.json"]


@pytest.mark.parametrize("head", ["upernet", "semantic_fpn"])
@pytest.mark.parametrize("name", ["pt2", "onnx"])
def test_a_segmenter_is_exported_with_its_head(head, name, tmp_path, cut_depths):
    """The file gives the scores of mmseg's own pass."""
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    cut_depths("van_b0", (1, 1, 1, 1))
    model = trained_norms(small_heads.built(small_heads.config_of("segmentation", *small_heads.SEGMENTERS[head])))
    net, extent = prepared(model), Extent((64, 96), 1, ("batch",))
    path = tmp_path / f"x{FORMATS[name].suffix}"
    described = Description("segmentation", "van_b0", ("scores",), *extent, "float32", (0.5,), (0.5,), "given", None)
    write(record(net, extent), name, path, described)
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        wanted = model(images, mode="tensor")
    assert wanted.shape[:2] == (3, 3) and wanted.shape[2] < 64
    assert errors_of(Exported(path)(images), wanted).largest < 1e-4


def test_a_file_with_other_values_is_not_kept(tmp_path, monkeypatch, capsys, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    right = FORMATS["pt2"].write

    def wrong(program, path, description, opset):
        for tensor in program.state_dict.values():  # which are those of the network
            tensor *= 1.01
        right(program, path, description, opset)
        for tensor in program.state_dict.values():
            tensor /= 1.01

    monkeypatch.setitem(FORMATS, "pt2", FORMATS["pt2"]._replace(write=wrong))
    argv = ["van_b0", "--format", "pt2", "--size", "64", "--out", tmp_path]
    status, out, err = run(export, argv, monkeypatch, capsys)
    assert status == 2 and "not kept" in out and not list(tmp_path.iterdir())
    assert err.startswith("error: pt2 was not kept: PyTorch computes other values") and err.count("\n") == 1


def test_nothing_is_replaced_unasked(tmp_path, monkeypatch, capsys, cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))
    (tmp_path / "van_b0.pt2").write_text("mine")
    argv = ["van_b0", "--format", "pt2", "--size", "64", "--repeats", "1", "--out", tmp_path]
    status, _, err = run(export, argv, monkeypatch, capsys)
    assert status == 2 and "van_b0.pt2 exists; allowed: another --out, or --overwrite" in err
    assert (tmp_path / "van_b0.pt2").read_text() == "mine"
    assert run(export, [*argv, "--overwrite"], monkeypatch, capsys)[0] == 0
    assert Exported(tmp_path / "van_b0.pt2").feature_info == create_backbone("van_b0").feature_info


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["van_b9"], "unknown arch, weights or file 'van_b9'; nearest: van_b"),
        (["van_b0", "--format", "tflite"], "invalid choice: 'tflite'"),
        (["van_b0", "--format", "pt2", "--size", "16"], "size is 16; allowed: integers from 32 up"),
        (["van_b0", "--format", "pt2", "--size", "1", "2", "3"], "--size has 3 values"),
        (["van_b0", "--format", "torchscript", "--dynamic"], "format torchscript keeps one size"),
        (["van_b0", "--opset", "7"], "--opset is 7; allowed: 18 to 23"),
        (["van_b0", "--format", "onnx", "--dtype", "bfloat16"], "allowed: float32, float16"),
        (["van_b0", "absent.pth"], "given by --pretrained"),
        (["absent.pth", "--pretrained", "x"], "--pretrained goes with an arch"),
        (["van_b0", "--format", "pt2", "--out-indices", "7"], "out_indices is [7]"),
        (["van_b0", "--int8"], "--int8 and --calibration go together"),
        (["van_b0", "--calibration", "photos"], "--int8 and --calibration go together"),
        (["van_b0", "--int8", "--calibration", "photos", "--format", "pt2"], "allowed: with --format onnx"),
        (["van_b0", "--int8", "--calibration", "absent.png"], "no such image for the calibration: absent.png"),
        (["mine.onnx"], "mine.onnx is exported already"),
        (["van_b2.in1kk"], "unknown arch, weights or file 'van_b2.in1kk'; nearest: van_b2.in1k"),
        (["absent.pth"], "no such file: absent.pth"),
        (["runs/absent"], "no such file: runs/absent"),
    ],
)
def test_mistakes_are_one_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: True)
    status, out, err = run(export, [*argv, "--out", tmp_path / "out"], monkeypatch, capsys)
    assert (status, out) == (2, "") and words in err and err.count("\n") == 1, err


def test_absent_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    status, _, err = run(export, ["van_b0", "--format", "onnx"], monkeypatch, capsys)
    wanted = (
        'format onnx needs onnx, onnxscript, onnxruntime, not installed here; pip install "ziggurat-vision[export]"'
    )
    assert (status, err) == (2, f"error: {wanted}\n")


def test_a_file_of_somebody_else_is_refused(tmp_path, small):
    with pytest.raises(UserError, match="no such exported file"):
        Exported(tmp_path / "absent.pt2")
    with pytest.raises(UserError, match=r"allowed suffixes: \.pt2, \.onnx, \.xml, \.torchscript"):
        Exported(tmp_path / "net.pth")
    (tmp_path / "broken.pt2").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"PyTorch cannot read .*broken\.pt2: it is damaged, not complete, or .*\(.*\)"):
        Exported(tmp_path / "broken.pt2")
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), tmp_path / "other.torchscript")
    with pytest.raises(UserError, match=r"other\.torchscript does not say what it holds"):
        Exported(tmp_path / "other.torchscript")


def test_the_weights_of_an_exported_file_name_it(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(UserError, match=r"net\.bin is a part of an exported file; allowed: .*net\.xml"):
        Exported(path)
    for has_file in (False, True):
        if has_file:
            path.with_suffix(".xml").write_text("<net/>")
        with pytest.raises(UserError, match="not a checkpoint, or cut off: ") as caught:
            create_backbone("van_b0", pretrained=path)
        assert str(caught.value).endswith(f"; of an exported file give {tmp_path}/net.xml") == has_file


def test_an_absent_part_of_a_file_is_named(tmp_path, monkeypatch):
    def fail(path, threads):
        raise RuntimeError("Empty weights")

    path = tmp_path / "net.xml"
    path.write_text("<net/>")
    monkeypatch.setitem(exported_file.RUNTIMES, "openvino", exported_file.Runtime(fail))
    with pytest.raises(UserError, match=r"no such file: .*net\.bin, which is a part of .*net\.xml"):
        Exported(path)
    path.with_suffix(".bin").touch()
    with pytest.raises(UserError, match=r"net\.xml: it is damaged, not complete, .* \(RuntimeError: Empty weights\)"):
        Exported(path)


def test_the_reason_of_a_runtime_is_short():
    openvino = "Exception from src/core.cpp:84: Check 'a(b, 'c')' failed at src/xml.cpp:900: Incorrect weights!"
    assert formats.reason_of(RuntimeError(openvino)) == "RuntimeError: Incorrect weights!"
    assert len(formats.reason_of(RuntimeError("long\n" * 500))) < 170


def test_compared_shapes_are_three_and_free_where_the_file_is():
    assert shapes_of(Extent((64, 96), 2)) == [(2, 3, 64, 96)]
    for free in (("batch",), ("size",), ("batch", "size")):
        shapes = shapes_of(Extent((64, 96), 2, free))
        assert len(set(shapes)) == 3 and shapes[0] == (2, 3, 64, 96)
        assert (len({shape[0] for shape in shapes}) == 3) == ("batch" in free)
        assert (len({shape[2:] for shape in shapes}) == 3) == ("size" in free)


def test_errors_are_those_of_the_worst_output():
    theirs = [torch.tensor([0.0, 4.0]), torch.tensor([10.0, 0.0])]
    assert errors_of(theirs, theirs) == (0, 0, 0)
    assert errors_of([theirs[0] + torch.tensor([1.0, 0.0]), theirs[1]], theirs) == (0.25, 0.125, 0)
    assert errors_of([theirs[0] * float("nan"), theirs[1]], theirs).mean == float("inf")
    assert errors_of(theirs[:1], theirs).largest == float("inf")


# --- with ONNX Runtime and OpenVINO, where they are installed


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("free", [(), ("batch", "size")])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_files_of_other_runtimes_compute_the_maps(small, arch, free, name, tmp_path):
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    net = prepared(small(arch), free=bool(free))
    extent = Extent((160, 192), 1, free)
    file = exported(record(net, extent), net, extent, name, tmp_path)
    assert file.description.arch == arch
    for shape in shapes_of(extent):
        image = torch.randn(shape)
        found = errors_of(file(image), net(image))
        assert found.mean < (1e-2 if "vig" in arch else 1e-5) and ("vig" in arch or found.largest < 1e-4)


def test_the_page_is_the_generated_one_and_no_format_was_refused():
    page = exports_table.page()
    assert page == exports_table.PAGE.read_text() and "refused" not in page
    for title, archs in (("One size, one image", set(list_archs())), ("Free batch and size", set(SMALL))):
        section = page.split(f"### {title}\n")[1].split("###")[0]
        rows = [line for line in section.splitlines() if line.endswith("x |")]
        assert {row.split(" | ")[0].removeprefix("| ") for row in rows} >= archs and "| - |" not in section


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_converter_cannot_swallow_a_signal(number, kind):
    before = signal.getsignal(number)
    with pytest.raises(kind), export.stoppable() as stopped:
        with contextlib.suppress(BaseException):  # as a converter of other languages does
            os.kill(os.getpid(), number)
            time.sleep(1)
        raise stopped[0]
    assert signal.getsignal(number) is before


def test_what_a_killed_export_left_is_removed_and_no_other_folder(tmp_path):
    child = os.fork()
    if child == 0:
        with temporary_folder(tmp_path, ".export.") as folder:
            (folder / "half.onnx").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    (tmp_path / ".mine").mkdir()
    with temporary_folder(tmp_path, ".export.") as living:
        assert living.is_dir() and not left.exists()
        with temporary_folder(tmp_path, ".export."):
            assert living.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".mine"]
