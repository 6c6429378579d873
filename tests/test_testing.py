"""tools/test.py without a config: published weights as their authors test them, and checkpoints that carry a config."""

import importlib.util
import json
import math
from pathlib import Path

import dense_data
import numpy as np
import pytest
import torch
from helpers import run
from mmengine.config import Config
from page_reader import PageReader
from PIL import Image
from timm.data import ImageNetInfo, create_transform

from backbones import WEIGHTS, UserError, create_backbone, list_archs
from backbones.weights import evaluation_of, own_meta
from backbones.weights.fetch import fetch_first
from classification import create_classifier
from classification.metrics import calibration_error, reliability
from classification.published import testing_config as published_config
from ziggurat.engine.config import load_config
from ziggurat.engine.num_classes import set_num_classes
from ziggurat.engine.options import parse_options
from ziggurat.engine.own_testing import metric_of, own_testing_config
from ziggurat.engine.run import build_testing
from ziggurat.engine.tasks import task_for
from ziggurat.engine.test_files import set_test_files

ROOT = Path(__file__).resolve().parent.parent
WNIDS = ImageNetInfo().label_names()
PUBLISHED = ROOT.parent / "shared/published/models.json"
ONE_PROCESS = "test_dataloader.num_workers=0"


@pytest.fixture
def tool():
    """The tool's module. Python has a package of the same name."""
    spec = importlib.util.spec_from_file_location("tool_test", ROOT / "tools/test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_folders(root, names, images=2, size=(90, 70)):
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for j in range(images):
            pixels = np.random.default_rng(10 * i + j).integers(0, 256, (7, 9, 3), np.uint8)
            path = root / name / f"ILSVRC2012_val_{images * i + j + 1:08}.png"
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return root


def sharp_classifier(arch, num_classes=1000):
    """A random classifier whose answers differ between images."""
    torch.manual_seed(0)
    clf = create_classifier(arch, num_classes).eval()
    clf.head.get_parameter("fc.weight").data *= 100
    return clf


# --- published weights


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published figures are not beside this checkout")
def test_preparation_is_the_published_one():
    families = json.loads(PUBLISHED.read_text())["families"]
    for name in WEIGHTS:
        arch, pretrain = name.split(".")
        setups = families[arch.split("_")[0].replace("pvig", "vig")]["eval_preprocess"]
        second = "base" in arch if arch.startswith("pvig") else "384" in arch or pretrain == "in22k"
        setup = setups[1] if second and arch.startswith(("van", "pvig", "hornet_large_gf384")) else setups[0]
        how = evaluation_of(arch, name)
        assert how.interpolation == setup["interpolation"] and WEIGHTS[name].input.mean == tuple(setup["mean"])
        if how.crop_mode == "squash":
            assert (how.input_size, how.crop_pct) == (384, 1) and "resized (warped) directly" in setup["crop_pct"]
        elif isinstance(setup["resize_short"], int):
            assert (how.input_size, math.floor(how.input_size / how.crop_pct)) == (224, setup["resize_short"])
        else:  # VVT: a formula for both sizes
            assert how.crop_pct == setup["crop_pct"]


def test_files_follow_their_row_or_their_family():
    assert evaluation_of("pvig_base", "some/folder/pvig_b_83.66.pth.tar").crop_pct == 0.95
    assert evaluation_of("pvig_base", "mine.pth").crop_pct == 0.9
    assert all(evaluation_of(arch, "mine.pth").input_size == 224 for arch in list_archs())


@pytest.mark.parametrize("by", ["name", "url"])
def test_published_weights_by_name_or_url(by, cut_depths, tool, tmp_path, monkeypatch, capsys):
    """The figures are those of timm's transform and the classifier, computed in a few lines."""
    cut_depths("van_b0", (1, 1, 1, 1))
    path = tmp_path / "van.pth"
    clf = sharp_classifier("van_b0")
    torch.save({"state_dict": clf.state_dict()}, path)
    row = WEIGHTS["van_b0.in1k"]._replace(urls=(path.as_uri(),))
    monkeypatch.setitem(WEIGHTS, "van_b0.in1k", row)
    fetch_first.cache_clear()
    names = [WNIDS[i] for i in (0, 7, 999)]
    root = write_folders(tmp_path / "imagenet/val", names).parent
    given = {"name": "van_b0.in1k", "url": path.as_uri()}[by]
    options = ["--device", "cpu", "--out", tmp_path / "m.json", "--cfg-options", f"data_root={root}", ONE_PROCESS]
    status, out, err = run(tool, [given, *options], monkeypatch, capsys)
    fetch_first.cache_clear()
    assert status == 0, err
    assert "6 images, 1000 classes, 224 pixels, crop ratio 0.9, bicubic, mean (0.5, 0.5, 0.5)" in out
    transform = create_transform(224, crop_pct=0.9, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    images = [(p, WNIDS.index(name)) for name in names for p in sorted((root / "val" / name).iterdir())]
    with torch.no_grad():
        scores = clf(torch.stack([transform(Image.open(p)) for p, _ in images])).softmax(1)
    labels = torch.tensor([label for _, label in images])
    confidence, best = scores.max(1)
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["top1"] == pytest.approx(100 * (best == labels).double().mean())
    assert len(set(best.tolist())) > 1
    expected = calibration_error(reliability(confidence, best == labels, 15))
    assert metrics["ece"] == pytest.approx(expected, rel=1e-3)


def test_classes_of_other_heads_are_the_sorted_folders_or_named(cut_depths, tmp_path):
    cut_depths("van_b0", (1, 1, 1, 1))
    torch.save(create_classifier("van_b0", 3).state_dict(), tmp_path / "three.pth")
    root = str(write_folders(tmp_path / "d/val", ["b", "a", "c"]).parent)
    assert published_config("three.pth", {"data_root": root})[1] == ["a", "b", "c"]
    cfg, names = published_config("three.pth", {"data_root": root, "classes": ["c", "b", "a"]})
    assert names == cfg.test_dataloader.dataset.classes == ["c", "b", "a"] and cfg.model.num_classes == 3
    with pytest.raises(UserError, match="classes has 2 names; allowed: 3"):
        published_config("three.pth", {"data_root": root, "classes": ["c", "b"]})
    write_folders(tmp_path / "d/val", ["d"])
    with pytest.raises(UserError, match=r"three.pth has 3 outputs, and .* 4 class folders, such as a; allowed: 3"):
        published_config("three.pth", {"data_root": root})


def test_a_head_of_imagenet_22k_is_tested_on_its_rows_of_imagenet(cut_depths, tool, tmp_path, monkeypatch, capsys):
    """timm's list of ImageNet-22K lacks one of the 1000 classes, which then is never predicted."""
    cut_depths("van_b0", (1, 1, 1, 1))
    larger = ImageNetInfo("imagenet22k").label_names()
    clf = create_classifier("van_b0", len(larger))
    clf.head.fc.weight.data.zero_()
    clf.head.fc.bias.data.zero_()
    clf.head.fc.bias.data[larger.index(WNIDS[5])] = 50
    torch.save(clf.state_dict(), tmp_path / "van22k.pth")
    write_folders(tmp_path / "in/val", [WNIDS[5], WNIDS[850]])
    argv = ["van22k.pth", "--device", "cpu", "--out", "m.json"]
    small = "test_dataloader.dataset.transform.input_size=64"
    status, out, err = run(tool, [*argv, "--cfg-options", "data_root=in", ONE_PROCESS, small], monkeypatch, capsys)
    assert status == 0 and "999 of 1000 classes" in out, err
    assert json.loads((tmp_path / "m.json").read_text())["top1"] == 50


def test_what_cannot_be_tested_is_named(cut_depths, tool, tmp_path, monkeypatch, capsys):
    cut_depths("van_b0", (1, 1, 1, 1))
    torch.save(create_backbone("van_b0").state_dict(), tmp_path / "backbone.pth")
    torch.save(create_classifier("van_b0").state_dict(), tmp_path / "van.pth")
    write_folders(tmp_path / "pets/val", ["cat", "dog"])

    def refused(argv, *words):
        status, _, err = run(tool, [*argv, "--device", "cpu"], monkeypatch, capsys)
        assert status == 2 and err.count("\n") == 1 and all(word in err for word in words), err

    refused(["backbone.pth"], "backbone.pth carries no config and holds no classifier")
    refused(["van_b0.in2k"], "van_b0.in2k", "van_b0.in1k")
    refused(["van.pth", "--cfg-options", "data_root=absent"], "no data folder absent/val")
    refused(["van.pth", "--cfg-options", "data_root=pets"], "1000 outputs", "2 class folders, such as cat", "n01440764")
    refused(["van.pth", "--tta", "six"], "six", "flip")
    refused(["config.py"], "CHECKPOINT is needed")
    refused(["van.pth", "--report", "van.pth"], "--report van.pth")


def test_a_report_of_imagenet_r_with_ten_crops(cut_depths, tool, tmp_path, monkeypatch, capsys):
    cut_depths("van_b0", (1, 1, 1, 1))
    torch.save(sharp_classifier("van_b0").state_dict(), tmp_path / "van.pth")
    write_folders(tmp_path / "r", [WNIDS[1], WNIDS[9]])
    argv = ["van.pth", "--images", "r", "--tta", "ten", "--report", "report", "--device", "cpu"]
    small = "test_dataloader.dataset.transform.input_size=64"
    status, out, err = run(tool, [*argv, "--cfg-options", ONE_PROCESS, small], monkeypatch, capsys)
    assert status == 0, err
    assert "4 images, 2 of 1000 classes, 64 pixels" in out and "10 views an image" in out
    assert json.loads((tmp_path / "report/report.json").read_text())["images"] == 4
    assert "top5" not in (tmp_path / "report/report.json").read_text()  # only two classes may be predicted
    assert (tmp_path / "report/confusion.csv").read_text().startswith(f"true,{WNIDS[1]},{WNIDS[9]}\n")


def test_real_labels_leave_images_out(cut_depths, tool, tmp_path, monkeypatch, capsys):
    cut_depths("van_b0", (1, 1, 1, 1))
    torch.save(create_classifier("van_b0").state_dict(), tmp_path / "van.pth")
    write_folders(tmp_path / "in/val", [WNIDS[0], WNIDS[1]])
    (tmp_path / "real.json").write_text(json.dumps([[*range(1000)], [], [3], [4]]))
    argv = ["van.pth", "--real-labels", "real.json", "--device", "cpu", "--out", "m.json"]
    small = "test_dataloader.dataset.transform.input_size=64"
    status, out, err = run(tool, [*argv, "--cfg-options", "data_root=in", ONE_PROCESS, small], monkeypatch, capsys)
    assert status == 0 and "3 images" in out, err
    assert json.loads((tmp_path / "m.json").read_text())["top1"] >= 33  # any class is right for the first image


# --- checkpoints of this project


CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
NAMES = {"classification": ["ant", "bee"], "detection": list(dense_data.CLASSES), "segmentation": ["box", "disc", "x"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """For each task the completed config of a run, its checkpoint, and a copy of its data at another place."""
    made = {}
    for task, config in CONFIGS.items():
        torch.manual_seed(0)
        root = tmp_path_factory.mktemp(task)
        for name in ("data", "moved"):
            if task == "classification":
                write_folders(root / name / "train", NAMES[task])
                write_folders(root / name / "val", NAMES[task], size=(64, 64))
            elif task == "detection":
                dense_data.write_coco(root / name, {"train": 1, "val": 2})
            else:
                dense_data.write_masks(root / name, {"training": 1, "validation": 2})
        options = {"data_root": str(root / "data"), "val_dataloader.num_workers": 0}
        if task == "segmentation":
            options |= {"classes": NAMES[task], "model.decode_head.loss_decode.class_weight": None}
            options |= {f"{split}_dataloader.dataset.metainfo": None for split in ("train", "val")}
        if task != "classification":
            options["val_dataloader.persistent_workers"] = False
        cfg = load_config(ROOT / config, options)
        set_num_classes(cfg.model, len(NAMES[task]))
        model = task_for(cfg).build_model(cfg)
        own = own_meta(model, None, None, task=task, classes=NAMES[task], config=cfg.to_dict())
        torch.save({"state_dict": model.state_dict(), "meta": {"ziggurat": own}}, root / "epoch_1.pth")
        made[task] = (cfg, root)
    return made


@pytest.mark.parametrize("task", CONFIGS)
def test_a_checkpoint_without_its_config_gives_the_same_metrics(task, models, tool, tmp_path, monkeypatch, capsys):
    cfg, root = models[task]
    expected = build_testing(cfg, root / "epoch_1.pth", tmp_path / "with", device="cpu").test()
    (root / "data").rename(root / "away")  # the data are found where the option says
    argv = [root / "epoch_1.pth", "--device", "cpu", "--work-dir", tmp_path / "without", "--out", tmp_path / "m.json"]
    try:
        capsys.readouterr()
        status, out, err = run(
            tool, [*argv, "--cfg-options", f"data_root={root / 'moved'}", ONE_PROCESS], monkeypatch, capsys
        )
    finally:
        (root / "away").rename(root / "data")
    assert status == 0 and len(out.splitlines()) == (3 if task == "classification" else 2), (out, err)
    found = json.loads((tmp_path / "m.json").read_text())
    assert found == pytest.approx(expected, nan_ok=True) and found
    assert (tmp_path / "without/test_images.png").is_file()


OTHER_CLASSES = {
    "swapped": lambda names: names[::-1],
    "moved": lambda names: ["new", *names[:-1]],
    "renamed": lambda names: ["z", *names[1:]],
}


@pytest.mark.parametrize("change", OTHER_CLASSES.values(), ids=OTHER_CLASSES)
@pytest.mark.parametrize("task", CONFIGS)
def test_classes_of_a_checkpoint_need_their_places_in_the_data(task, change, models, tmp_path, capsys):
    """w03: swapped classes give an AP of 0, and nobody knows why. A name that the data lack is said."""
    cfg, root = models[task]
    content = torch.load(root / "epoch_1.pth")
    content["meta"]["ziggurat"]["classes"] = classes = change(NAMES[task])
    torch.save(content, tmp_path / "other.pth")
    runner = build_testing(cfg, tmp_path / "other.pth", tmp_path / "test", device="cpu")
    _ = runner.test_loop
    first = f"its class 0 is {classes[0]!r}, and the data's is {NAMES[task][0]!r}"
    if classes[0] == "z":
        runner.load_or_resume()
        assert f"other.pth is of other classes: {first}" in capsys.readouterr().err
    else:
        with pytest.raises(UserError, match=f"in another order than the data: {first}; allowed: the same order"):
            runner.load_or_resume()


def test_a_carried_config_keeps_to_reading(models, tmp_path):
    """Types of other modules, addresses and code are refused. File names to write to are left out."""
    _, root = models["detection"]
    content = torch.load(root / "epoch_1.pth", weights_only=True)

    def carried(change):
        config = json.loads(json.dumps(content["meta"]["ziggurat"]["config"]))
        change(config)
        meta = {"ziggurat": content["meta"]["ziggurat"] | {"config": config}}
        torch.save({**content, "meta": meta}, tmp_path / "other.pth")
        return own_testing_config(tmp_path / "other.pth", {})[0]

    cfg = carried(lambda config: config["test_evaluator"].update(outfile_prefix="somewhere"))
    assert "outfile_prefix" not in cfg.test_evaluator[0]
    for change, words in (
        (lambda config: config["test_evaluator"].update(type="os.system"), "os.system"),
        (lambda config: config["test_evaluator"].update(metric="a/b"), "a/b"),
        (lambda config: config.update(test_evaluator=None), "test_evaluator"),
        (lambda config: config["test_dataloader"]["dataset"].update(data_root="http://x/y"), "http://x/y"),
        (lambda config: config["test_dataloader"]["dataset"].update(serialize_data="a/b"), "serialize_data"),
    ):
        with pytest.raises(UserError, match=words) as error:
            carried(change)
        assert "other.pth" in str(error.value)


def test_options_of_training_are_refused_in_a_test(models):
    with pytest.raises(UserError, match=r"val_dataloader.batch_size changes nothing in a test; allowed: .* test_"):
        own_testing_config(models["classification"][1] / "epoch_1.pth", {"val_dataloader.batch_size": 1})


def test_options_of_another_task_are_refused(models, tool, monkeypatch, capsys):
    path = models["segmentation"][1] / "epoch_1.pth"
    for option, words in ((["--images", "r"], "for classification"), (["--tta", "five"], "no choice of views")):
        status, _, err = run(tool, [path, *option, "--device", "cpu"], monkeypatch, capsys)
        assert status == 2 and words in err and err.count("\n") == 1, err


FURTHER = {  # options of the pages, and names of metrics that they bring
    "detection": [
        ("test_evaluator.0.metric=[bbox,segm,boundary]", "boundary_mAP"),
        ("test_evaluator.0.area_ranges={'tiny': (0, 256), 'rest': (256, 1e10)}", "segm_mAP_tiny"),
        ("test_evaluator.0.backend=faster-coco-eval", "bbox_mAP"),
    ],
    "segmentation": [("test_evaluator.0.iou_metrics=[mIoU,mDice]", "mDice")],
}
WRITTEN = {
    "detection": ["per_class.csv", "errors_bbox.csv", "errors_bbox.png", "errors_segm.csv", "errors_segm.png"],
    "segmentation": ["per_class.csv", "confusion.csv", "confusion.png"],
}


@pytest.mark.parametrize("task", WRITTEN)
def test_dense_tasks_write_their_report_and_their_predictions(task, models, tool, tmp_path, monkeypatch, capsys):
    _, root = models[task]
    argv = [root / "epoch_1.pth", "--report", tmp_path / "report", "--results", tmp_path / "results"]
    argv += ["--device", "cpu", "--work-dir", tmp_path / "run", "--out", tmp_path / "m.json", "--cfg-options"]
    options, names = zip(*FURTHER[task])
    status, out, err = run(tool, [*argv, ONE_PROCESS, *options], monkeypatch, capsys)
    assert status == 0 and f"report: {tmp_path / 'report'}" in out and f"results: {tmp_path / 'results'}" in out, err
    content = json.loads((tmp_path / "report/report.json").read_text())
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert {name.removeprefix("coco/"): value for name, value in metrics.items()} == content["metrics"]
    assert set(names) <= set(content["metrics"]) and content.get("backend", "") in ("", "faster-coco-eval")
    assert [row["class"] for row in content["classes"]] == NAMES[task]
    pictures = ["test_images.png", "test_images.json"]
    assert all((tmp_path / "report" / name).stat().st_size for name in WRITTEN[task] + pictures)
    page = PageReader(tmp_path / "report/index.html")
    listed = [one for block in json.loads((tmp_path / "report/test_images.json").read_text()).values() for one in block]
    assert f"report: {tmp_path / 'report/index.html'}" in out and all(page.counts())
    assert [card["name"] for card in page.cards] == ["/".join(Path(one["image"]).parts[-2:]) for one in listed]
    assert [card["files"] for card in page.cards] == [list(one["pictures"].values()) for one in listed]
    assert all((tmp_path / "report" / file).is_file() for file in page.files) and page.scripts == 1
    for of, name in enumerate(listed[0]["filters"]):
        values = [value for one in listed for value in one["filters"][name]]
        assert {key: count for key, count in page.counts().items() if key[0] == of and count} == {
            (of, value): values.count(value) for value in values
        }
    files = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert files == (["results.bbox.json", "results.segm.json"] if task == "detection" else ["0.png", "1.png"])


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_tiles_as_large_as_the_images_change_no_metric(task, models, tool, tmp_path, monkeypatch, capsys):
    """Smaller tiles are tested, too, with a report and results that hold the masks of whole images."""
    _, root = models[task]
    argv = [root / "epoch_1.pth", "--device", "cpu", "--out", tmp_path / "m.json", "--results", tmp_path / "results"]
    found = []
    for size in (None, 256, 48):
        tiles = [] if size is None else ["--tile", size, "--report", tmp_path / "report"]
        status, _, err = run(tool, [*argv, *tiles, "--cfg-options", ONE_PROCESS], monkeypatch, capsys)
        assert status == 0, err
        found.append(json.loads((tmp_path / "m.json").read_text()))
    assert found[1] == pytest.approx(found[0], nan_ok=True)
    assert (tmp_path / "report/test_images.png").is_file()
    if task == "detection":
        rows = json.loads((tmp_path / "results/results.segm.json").read_text())
        assert rows and all(row["segmentation"]["size"] == [64, 64] for row in rows)


def test_tiles_of_a_classifier_are_refused(models, tool, monkeypatch, capsys):
    checkpoint = models["classification"][1] / "epoch_1.pth"
    for argv, words in (
        (["--tile", 64], "tiles are for detection and segmentation, and this is classification"),
        (["--tile", 8], "--tile is 8; allowed: integers from 32 up"),
        (["--tile-overlap", 0.5], "--tile-overlap is 0.5, without --tile"),
        (["--tile", 64, "--tile-overlap", 1], "--tile-overlap is 1.0; allowed: from 0 to less than 1"),
    ):
        status, _, err = run(tool, [checkpoint, "--device", "cpu", *argv], monkeypatch, capsys)
        assert status == 2 and words in err and err.count("\n") == 1


def test_a_panoptic_metric_reads_and_reports():
    """The folder of its maps is a path to read from, and its own metric takes the place of mmdet's."""
    given = dict(type="mmdet.CocoPanopticMetric", ann_file="a/b.json", seg_prefix="a/maps", report="somewhere")
    read = metric_of(given, "test_evaluator[0]")
    assert read == {name: value for name, value in given.items() if name != "report"}
    cfg = Config(dict(test_evaluator=[read]))
    task_for(Config(dict(custom_imports=dict(imports=["detection"])))).use_test_files(cfg, "r", "out")
    assert cfg.test_evaluator[0] == read | dict(
        type="FullCocoPanopticMetric", report="r", outfile_prefix=str(Path("out/results"))
    )


def test_a_report_needs_the_metric_of_its_task():
    cfg = Config(dict(test_evaluator=[dict(type="CocoMetric", metric="bbox"), dict(type="mmdet.VOCMetric")]))
    set_test_files(cfg, "CocoMetric", "FullCocoMetric", report="r", outfile_prefix=None)
    assert cfg.test_evaluator[0] == dict(type="FullCocoMetric", metric="bbox", report="r")
    for metrics in ([dict(type="VOCMetric")], [dict(type="FullCocoMetric")] * 2):
        with pytest.raises(UserError, match="need one metric FullCocoMetric in test_evaluator; it has"):
            set_test_files(Config(dict(test_evaluator=metrics)), "CocoMetric", "FullCocoMetric", report="r")


def test_a_config_takes_the_options_of_the_pages_too(models):
    cfg, root = models["detection"]
    options = {
        option.replace(".0.", ".").partition("=")[0]: option.partition("=")[2] for option, _ in FURTHER["detection"]
    }
    parsed = parse_options([f"{name}={value}" for name, value in options.items()] + [f"data_root={root / 'data'}"])
    evaluator = load_config(ROOT / CONFIGS["detection"], parsed).test_evaluator
    assert evaluator.metric == ["bbox", "segm", "boundary"] and evaluator.backend == "faster-coco-eval"
    assert evaluator.type == "FullCocoMetric" and list(evaluator.area_ranges) == ["tiny", "rest"]
    assert evaluator.ann_file == cfg.test_evaluator.ann_file
