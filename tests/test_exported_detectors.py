"""Exported detectors find the objects that mmdet finds, in tensors of fixed length, by PyTorch and other runtimes."""

import copy
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import export
import exports_table
import numpy as np
import pytest
import small_heads
import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from spread_heads import COUNT, DENSE, NAMES, detector, predicted, prepared_data

from backbones import UserError
from backbones.errors import Notice
from backbones.export import FORMATS, Errors, Exported, Extent, errors_of_objects
from backbones.export.description import description_in
from backbones.export.program import input_names, prepared, record
from backbones.weights import Statistics
from detection.exported import export_outputs, exported, pasted, samples_of_export
from detection.exported_boxes import Boxes, best, clipped, suppressed
from detection.exported_regions import classes_above, pooled
from ziggurat.engine.export_check import Row
from ziggurat.engine.exporting import Subject, subject_of
from ziggurat.engine.exporting import export as export_all
from ziggurat.engine.photographs import photographs
from ziggurat.engine.predictor import Predictor
from ziggurat.engine.runtimes import RuntimeModel, fitted
from ziggurat.engine.tasks import task_for

IMAGE = small_heads.image_of(384, 512)  # which the test pipelines make half as large
IDENTITY = Statistics((0.5,) * 3, (0.25,) * 3, "given")


@pytest.fixture(autouse=True)
def short_backbones(cut_depths):
    cut_depths("van_b0", (1, 1, 1, 1))


@torch.no_grad()
def found_by_export(cfg, model, image):
    """mmdet's objects, from the outputs of the exported module."""
    data = prepared_data(cfg, model, image)
    net = exported(model).eval()
    outputs = net(data["inputs"], *shown_for(net, data))
    assert len(outputs) == len(export_outputs(model)) and all(len(output) == len(outputs[1]) for output in outputs)
    assert (outputs[1].diff() <= 0).all()
    return samples_of_export(cfg, list(outputs), data["data_samples"])[0].pred_instances


def shown_for(net, data):
    """The second input of an exported module, if the module has one."""
    return [torch.tensor(data["data_samples"][0].img_shape[:2]).float()] if "shown" in input_names(net) else []


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)
    assert ours.labels.dtype == theirs.labels.dtype and ours.labels.equal(theirs.labels)
    assert ("masks" in ours) == ("masks" in theirs)
    if "masks" in ours:
        assert ours.masks.dtype == theirs.masks.dtype and ours.masks.equal(theirs.masks)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_finds_what_mmdet_finds(name):
    cfg, model = detector(name, IMAGE)
    theirs = predicted(cfg, model, IMAGE)
    assert len(theirs) > 10 and len(set(theirs.scores.tolist())) > 10 and len(set(theirs.labels.tolist())) > 1
    assert_same(found_by_export(cfg, model, IMAGE), theirs)
    if name in DENSE or "rcnn" in name:
        test_cfg = model.test_cfg.get("rcnn") or model.test_cfg
        head = model.roi_head if "rcnn" in name else model.bbox_head
        for options in (test_cfg, head.test_cfg):
            options["nms"]["iou_threshold"] = 0.2
        other = predicted(cfg, model, IMAGE)
        assert len(other) != len(theirs) or not other.bboxes.equal(theirs.bboxes), "suppression had work"
        assert_same(found_by_export(cfg, model, IMAGE), other)


@pytest.mark.parametrize("name", [*DENSE, "mask_rcnn", "cascade_mask_rcnn"])
def test_the_filling_beside_an_image_counts_as_in_mmdet(name):
    """Objects of the filling are clipped to the image's border before they compete."""
    image = small_heads.image_of(320, 500)
    cfg, model = detector(name, image)
    model.data_preprocessor.pad_size_divisor = 96
    theirs, data = predicted(cfg, model, image), prepared_data(cfg, model, image)
    (shown,) = shown_for(net := exported(model).eval(), data)
    assert len(theirs) > 10 and shown.tolist() != list(data["inputs"].shape[2:])
    assert_same(found_by_export(cfg, model, image), theirs)
    with torch.no_grad():
        assert not net(data["inputs"])[0].equal(net(data["inputs"], shown)[0]), "the filling has objects"


class InMemory:
    """An exported module in place of a file, for inputs of 224x320 pixels."""

    def __init__(self, net):
        self.net, self.path = net, Path("mine.onnx")
        self.description = SimpleNamespace(free=(), size=(224, 320), batch=1, inputs=input_names(net))

    def __call__(self, image, shown):
        return self.net(image, torch.tensor(shown).float())


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_images_of_a_batch_have_their_own_size_in_a_larger_file(name):
    images = [small_heads.image_of(320, 500), small_heads.image_of(400, 400)]
    cfg, model = detector(name, images[0])
    task, file = task_for(cfg), InMemory(exported(model).eval())
    computed = RuntimeModel(task, cfg, model.data_preprocessor, lambda size: file, "")
    cfg.test_dataloader.dataset.pipeline[1].scale = (220, 220)
    with task.scoped(cfg), torch.no_grad():
        data = pseudo_collate([task.preprocessing(cfg)(image) for image in images])
        with pytest.warns(Notice, match="not 320x224 pixels"):
            found = computed.test_step(copy.deepcopy(data))
        data = model.data_preprocessor(data)
        height, width = data["inputs"].shape[2:]
        assert height <= 224 and width < 320, "the file is larger"
        theirs = model.predict(F.pad(data["inputs"], (0, 320 - width, 0, 224 - height)), data["data_samples"])
    assert [sample.img_shape for sample in found] == [(141, 220), (220, 220)]
    for ours, wanted in zip(found, theirs, strict=True):
        assert len(wanted.pred_instances) > 5
        assert_same(ours.pred_instances, wanted.pred_instances)


def test_a_padded_image_that_is_made_smaller_keeps_its_border():
    sample = DetDataSample(metainfo=dict(img_shape=(60, 100), scale_factor=(2.0, 2.0)))
    image = torch.ones(1, 3, 64, 128)
    image[:, :, 60:], image[..., 100:] = 0, 0
    small = fitted(image, [sample], (32, 96))
    assert small.shape == (1, 3, 32, 96) and sample.img_shape == (30, 50) and sample.scale_factor == (1.0, 1.0)
    assert small[0, 0, :30, :50].min() > 0.4 and not small[..., 52:].any()


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_a_predictor_gives_the_same(name, tmp_path):
    """Of an image that preprocessing makes smaller."""
    cfg, model = detector(name, IMAGE)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "mine.pth")
    predictor = Predictor(cfg, tmp_path / "mine.pth")
    wanted = predictor(IMAGE)
    data = prepared_data(predictor.cfg, predictor.model, IMAGE)
    with torch.no_grad():
        outputs = list(predictor.task.exported(predictor.model).eval()(data["inputs"]))
    samples = predictor.task.samples_of_export(predictor.cfg, outputs, data["data_samples"])
    found = predictor.task.result(samples[0], predictor.names)
    assert len(found.scores) == len(wanted.scores) > 5 and found.names == wanted.names
    for ours, theirs in ((found.boxes, wanted.boxes), (found.scores, wanted.scores)):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-5, atol=1e-3)
    assert (found.masks is None) == (wanted.masks is None) == (name == "retinanet")
    assert found.masks is None or bool((found.masks == wanted.masks).all())


def test_a_file_alone_detects_in_images_that_fill_it(tmp_path):
    cfg, model = detector("retinanet", IMAGE)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "mine.pth")
    predictor = Predictor(cfg, tmp_path / "mine.pth")
    size = tuple(prepared_data(predictor.cfg, predictor.model, IMAGE)["inputs"].shape[2:])
    subject = subject_of(predictor, "mine.pth")
    assert subject.size == (256, 256), "the test pipeline's scale"
    (row,) = export_all(subject, ["pt2"], tmp_path, Extent(size), repeats=1)
    wanted, found = predictor(IMAGE), Predictor(row.path)(IMAGE)
    assert len(found.scores) == len(wanted.scores) > 5 and found.names == wanted.names
    torch.testing.assert_close(torch.tensor(found.boxes), torch.tensor(wanted.boxes), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(torch.tensor(found.scores), torch.tensor(wanted.scores), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["retinanet", "dino"])
def test_queries_do_not_look_at_padding(name):
    cfg, model = detector(name, IMAGE)
    assert ("shown" in input_names(exported(model))) == (name != "dino")
    described = SimpleNamespace(free=(), size=(256, 256), batch=1, inputs=("image",))
    file = SimpleNamespace(path=Path("mine.onnx"), description=described)
    computed = RuntimeModel(task_for(cfg), cfg, model.data_preprocessor, lambda size: file, "")
    with task_for(cfg).scoped(cfg):
        data = pseudo_collate([task_for(cfg).preprocessing(cfg)(IMAGE)])
    words = "the input is 256x192 pixels after preprocessing; allowed for an exported DINO: 256x256"
    if name == "dino":
        with pytest.raises(UserError, match=words):
            computed.test_step(data)
        return
    told = pytest.warns(Notice, match=r"not 256x256 pixels, as mine\.onnx was exported, but e\.g\. 256x192")
    with told, pytest.raises(TypeError):  # there is no file to call
        computed.test_step(data)


def test_an_8_bit_copy_of_a_detector_is_refused(tmp_path):
    with pytest.raises(UserError, match="which gives objects, is not made; allowed: without --int8"):
        list(export_all(subject_for("retinanet"), ["onnx"], tmp_path, Extent((64, 64)), calibration=[tmp_path]))


def test_nothing_found_is_rows_of_zeros():
    cfg, model = detector("mask_rcnn", IMAGE, score_thr=0.9999)
    data = prepared_data(cfg, model, IMAGE)
    with torch.no_grad():
        outputs = exported(model).eval()(data["inputs"])
    assert [tuple(output.shape) for output in outputs] == [(COUNT, 4), (COUNT,), (COUNT,), (COUNT, 28, 28)]
    assert not any(output.any() for output in outputs)
    found = samples_of_export(cfg, list(outputs), data["data_samples"])[0].pred_instances
    assert len(found) == 0 and found.masks.shape == (0, 384, 512) and found.masks.dtype == torch.bool


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_suppression_is_that_of_mmcv(class_agnostic):
    torch.manual_seed(0)
    corners = torch.rand(400, 2) * 80
    boxes = torch.cat((corners, corners + torch.rand(400, 2) * 60), dim=1)
    boxes[:20, 2:] = boxes[:20, :2]  # without area
    scores, labels = torch.rand(400).where(torch.rand(400) > 0.3, 0), torch.randint(0, 3, (400,))
    nms = ConfigDict(type="nms", iou_threshold=0.5, class_agnostic=class_agnostic)
    rows = best(suppressed(Boxes(boxes, scores, labels), labels, nms), 500)
    valid = scores > 0
    theirs, keep = batched_nms(boxes[valid], scores[valid], labels[valid], nms)
    count = len(keep)
    assert 50 < count < int(valid.sum()) and len(rows.scores) == 500
    assert rows.boxes[:count].equal(theirs[:, :4]) and rows.scores[:count].equal(theirs[:, 4])
    assert rows.labels[:count].equal(labels[valid][keep]) and not any(column[count:].any() for column in rows)


class Suppression(torch.nn.Module):
    def forward(self, scores):
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(30, 1)
        found = Boxes(boxes, scores, torch.zeros(30, dtype=torch.int64))
        return best(suppressed(found, found.labels, {"iou_threshold": 0.5}), 5).scores


def test_a_record_of_suppression_takes_any_number_of_boxes():
    record = torch.export.export(Suppression(), (torch.rand(30),)).module()
    for scores, wanted in ((torch.zeros(30), 0), (torch.linspace(0, 0.5, 30), 0.5), (torch.full((30,), 0.25), 0.25)):
        assert record(scores).tolist() == [wanted, 0, 0, 0, 0]


def test_regions_have_the_features_of_mmdet():
    _, model = detector("mask_rcnn", IMAGE)
    extractor = model.roi_head.bbox_roi_extractor
    maps = [torch.randn(1, 32, 256 // stride, 256 // stride) for stride in (4, 8, 16, 32, 64)]
    corners = torch.rand(60, 2) * 200
    boxes = torch.cat((corners, corners + torch.rand(60, 2) * torch.logspace(0, 2.4, 60)[:, None]), dim=1)
    theirs = extractor(maps[:4], torch.cat((torch.zeros(60, 1), boxes), dim=1))
    torch.testing.assert_close(pooled(extractor, maps, boxes), theirs, rtol=1e-5, atol=1e-5)


def test_boxes_are_clipped_and_classes_bounded():
    boxes = torch.tensor([[-5.0, -6.0, 70.0, 80.0], [1.0, 2.0, 3.0, 4.0]])
    assert clipped(boxes, torch.tensor([40.0, 60.0])).tolist() == [[0, 0, 60, 40], [1, 2, 3, 4]]
    for threshold in (0.05, 0.3, 0.5, 1 / 3, 0.9):
        most = classes_above(threshold, 80)
        assert most * threshold < 1 + 1e-9 and (most + 1) * threshold >= 1 - 1e-9, threshold
    assert classes_above(0, 80) == 80 and classes_above(0.05, 3) == 3


def test_masks_are_pasted_at_their_boxes():
    masks = torch.zeros(1, 28, 28)
    masks[:, :, 14:] = 1
    found = pasted(masks, torch.tensor([[10.0, 20.0, 38.0, 48.0]]), (60, 50), 0.5)[0]
    wanted = torch.zeros(60, 50, dtype=torch.bool)
    wanted[20:48, 24:38] = True
    assert found.equal(wanted)


def test_the_page_shows_how_to_use_the_outputs():
    """In NumPy, for an image that was made half as large."""
    (block,) = [block for block in exports_table.page().split("```\n") if "def objects(" in block]
    names = {}
    exec(block, names)
    cfg, model = detector("mask_rcnn", IMAGE)
    data = prepared_data(cfg, model, IMAGE)
    with torch.no_grad():
        outputs = exported(model).eval()(data["inputs"])
    wanted = samples_of_export(cfg, list(outputs), data["data_samples"])[0].pred_instances.numpy()
    boxes, scores, labels, masks = names["objects"](*(output.numpy() for output in outputs), 0.5, 384, 512)
    assert len(boxes) == len(wanted) > 5 and (scores == wanted.scores).all() and (labels == wanted.labels).all()
    np.testing.assert_allclose(boxes, wanted.bboxes, atol=1e-3)
    assert (np.stack(masks) == wanted.masks).mean() > 0.99999 and wanted.masks.any()


# --- recorded


def subject_for(name, **options):
    cfg, model = detector(name, IMAGE, **options)
    task = task_for(cfg)
    fields = dict(outputs=task.export_outputs(model), free=task.exported_free)
    return Subject(task.exported(model).eval(), "mine", task.name, IDENTITY, None, (128, 160), ("a", "b"), **fields)


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn"])
def test_a_file_of_pytorch_finds_the_same(name, tmp_path):
    subject = subject_for(name)
    (row,) = export_all(subject, ["pt2"], tmp_path, Extent((128, 160)), repeats=1)
    assert row.refused is None and row.objects > 20 and row.errors.missed == 0 and row.errors.largest < 1e-5
    assert len(row.sizes) > 1, "several photographs"
    file = Exported(row.path)
    assert file.description.outputs == ("boxes", "scores", "labels", "masks")[: 4 if name == "mask_rcnn" else 3]
    image = torch.randn(1, 3, 128, 160)
    whole, part = file(image), file(image, (96, 110.0))
    assert len(whole) == len(file.description.outputs) and whole[0].equal(file(image, torch.tensor([128, 160]))[0])
    assert part[0][:, 0::2].max() == 110 and part[0][:, 1::2].max() == 96 < whole[0][:, 1::2].max()
    assert row.sizes[-1] == (1, 3, 128, 160) and len(row.sizes) == len(photographs()[0]) + 1, "one is filled partly"
    for wrong in ((96,), (96, 161), (0, 160), "ab", (float("nan"), 160), 96):
        assert refusal(partial(file, image, wrong)).endswith("; allowed: height and width, up to 128 and 160"), wrong
    header = export.table_line({name: name for name in export.COLUMNS}, True)
    line = export.line_of(row, True)
    assert "100.0%" in line and line.index(str(row.path)) == header.index("file")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("atss", "gfl")])  # whose paths RetinaNet has
@torch.no_grad()
def test_a_record_of_free_sizes_finds_the_same_in_each(name):
    subject = subject_for(name)
    net, extent = prepared(subject.net, free=True), Extent((192, 192), 1, subject.free)
    recorded = record(net, extent).module()
    other = (288, 160) if name == "rtmdet" else (257, 131)  # RTMDet's neck takes multiples of 32 alone
    for height, width in ((192, 224), (160, 320), other):
        image = F.interpolate(torch.randn(1, 3, height // 8, width // 8), (height, width), mode="bicubic")
        inputs = (image, torch.tensor([height - 9.0, width - 5]))[: len(input_names(net))]
        theirs = net(*inputs)
        assert (theirs[1] > 0).sum() > 5
        found = errors_of_objects(recorded(*inputs), theirs, max(height, width))
        assert found.missed == 0 and found.largest < 1e-5, (height, width)


@pytest.mark.parametrize("free", [(), ("size",)], ids=["fixed", "free"])
@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("model", ["retinanet", "mask_rcnn", "cascade_mask_rcnn", "dino"])
def test_a_file_of_other_runtimes_finds_the_same(model, name, free, tmp_path):
    for package in ("onnx", "onnxscript", *FORMATS[name].packages):
        pytest.importorskip(package)
    (row,) = export_all(subject_for(model), [name], tmp_path, Extent((192, 224), 1, free), repeats=1)
    assert row.refused is None and row.objects > 20, row.refused
    assert len(set(row.sizes)) == (3 if free else 1)
    assert row.errors.missed <= 0.02 and row.errors.largest < 1e-3


def test_a_description_without_inputs_is_of_an_image_alone():
    """As of files that were written before there was a second input."""
    wanted = subject_for("retinanet").describe(Extent((128, 160)), "float32", True)
    content = json.loads(wanted.as_text())
    assert description_in(json.dumps(content), "x.onnx").inputs == wanted.inputs == ("image", "shown")
    del content["inputs"]
    assert description_in(json.dumps(content), "x.onnx").inputs == ("image",)
    for wrong in (["shown"], "image", None, ["image", "mask"], 3):
        text = json.dumps(content | {"inputs": wrong})
        assert "cannot be read" in refusal(partial(description_in, text, "x.onnx")), wrong


# --- refused


def refusal(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_heads_are_refused():
    kind, slim = small_heads.DETECTORS["mask2former"]
    model = small_heads.built(small_heads.config_of("detection", kind, slim))
    words = refusal(lambda: exported(model))
    assert words.startswith("MaskFormerFusionHead") or words.startswith("Mask2FormerHead"), words
    assert "of Mask2Former is not exported; allowed: RetinaHead" in words and words.endswith("or --backbone")


def test_other_parts_are_refused():
    _, model = detector("mask_rcnn", IMAGE)
    nms = model.test_cfg.rcnn.nms
    for options in ({"type": "soft_nms", "iou_threshold": 0.5}, {"type": "nms", "iou_threshold": 0.5, "max_num": 3}):
        model.test_cfg.rcnn.nms = ConfigDict(options)
        assert "nms of test_cfg is" in refusal(lambda: exported(model))
    model.test_cfg.rcnn.nms = nms
    model.roi_head.bbox_roi_extractor.roi_layers[0].pool_mode = "max"
    assert refusal(lambda: exported(model)).startswith("SingleRoIExtractor of MaskRCNN is not exported; allowed: RPN")


def test_detectors_have_one_image():
    outputs = ("boxes", "scores", "labels")
    subject = Subject(torch.nn.Identity(), "mine", "detection", IDENTITY, None, outputs=outputs, free=())
    subject.check(Extent((64, 64)), "float32")
    assert refusal(lambda: subject.check(Extent((64, 64), 2), "float32")) == "batch is 2; allowed for detection: 1"
    words = refusal(lambda: subject.check(Extent((64, 64), 1, ("size",)), "float32"))
    assert words == "detection is exported without a free size; allowed: without --dynamic"
    words = refusal(lambda: subject._replace(free=("size",)).check(Extent((64, 64), 1, ("batch", "size")), "float32"))
    assert words == "detection is exported without a free batch; allowed: size"
    assert refusal(lambda: subject.check(Extent((64, 64)), "float16")).startswith("dtype is float16; allowed for detec")


# --- compared


def test_objects_are_compared_as_sets():
    torch.manual_seed(0)
    boxes, scores = torch.rand(20, 4) * 100, torch.linspace(0.9, 0.1, 20)
    theirs = [boxes, scores.where(scores > 0.15, 0), torch.arange(20) % 3, torch.rand(20, 4, 4)]
    order = torch.randperm(20)
    mixed = [t[order] for t in theirs]
    assert errors_of_objects(mixed, theirs, 100) == (0, 0, 0)
    moved = copy.deepcopy(mixed)
    moved[0][3] += 0.05
    found = errors_of_objects(moved, theirs, 100)
    assert found.missed == 0 and abs(found.largest - 0.0005) < 1e-6 and 0 < found.mean < 0.0005
    moved[0][3] += 0.5
    assert abs(errors_of_objects(moved, theirs, 100).missed - 1 / int((theirs[1] > 0).sum())) < 1e-9, "another object"
    other = copy.deepcopy(mixed)
    other[2][mixed[1].argmax()] += 1  # the label of one of the objects
    count = int((theirs[1] > 0).sum())
    assert abs(errors_of_objects(other, theirs, 100).missed - 1 / count) < 1e-9
    none = [torch.zeros_like(t) for t in theirs]
    assert errors_of_objects(none, none, 100) == (0, 0, 0) and errors_of_objects(none, theirs, 100).missed == 1
    for bad in ([theirs[0] * float("nan"), *theirs[1:]], theirs[:3]):
        assert errors_of_objects(bad, theirs, 100) == (float("inf"), float("inf"), 1)


def test_a_table_without_objects_is_as_before():
    row = Row("onnx", "x.onnx", 1.0, Errors(0.0, 0.0))
    row = row._replace(ms=1.0, torch_ms=2.0, ratio=2.0)
    assert "objects" not in export.table_line({name: name for name in export.COLUMNS}, False)
    assert export.line_of(row, False).split() == ["onnx", "1.0", "0.0e+00", "0.0e+00", "2.0", "1.0", "2.00x", "x.onnx"]
