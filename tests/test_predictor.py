"""ziggurat.engine.Predictor: one class for three tasks.

The results equal tools/test.py's bit for bit, for images in any form. An own checkpoint needs no config.
"""

import copy
import subprocess
import sys
from dataclasses import replace

import dense_data
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope, init_default_scope
from PIL import Image

from backbones import UserError
from backbones.weights import own_meta, save_safely
from backbones.weights.own import from_json, to_json
from ziggurat import engine
from ziggurat.engine.arguments import pixels_of
from ziggurat.engine.config import load_config
from ziggurat.engine.image_batches import batches_of
from ziggurat.engine.own_config import config_from
from ziggurat.engine.registered import NEEDLESS
from ziggurat.engine.results import ClassMap, Instances, Scores
from ziggurat.engine.run import build_testing
from ziggurat.engine.tasks import task_for

CONFIGS = {
    "classification": "classification/configs/demo/van_b0_digits.py",
    "detection": "detection/configs/demo/mask_rcnn_van_b0_digits.py",
    "segmentation": "segmentation/configs/demo/semantic_fpn_van_b0_digits.py",
}
RESULTS = {"classification": Scores, "detection": Instances, "segmentation": ClassMap}
NAMES = {"classification": ["bright", "dark"], "detection": ["box", "disc"], "segmentation": ["box", "disc", "ground"]}
ARRAYS = ("scores", "labels", "boxes", "masks", "class_map")
TASKS = list(CONFIGS)


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def write_folders(root):
    for split in ("train", "val"):
        for label, name in enumerate(NAMES["classification"]):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(dense_data.scene(2 * i + label)[0]).save(root / split / name / f"{i}.jpg")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory, request):
    """Of each task: (its config, the checkpoint of a random network, the images of the test set in their order)."""
    import os

    os.chdir(request.config.rootpath)
    root, made = tmp_path_factory.mktemp("predictor"), {}
    data = {
        "classification": write_folders(root / "folders"),
        "detection": dense_data.write_coco(root / "coco", {"train": 1, "val": 4}),
        "segmentation": dense_data.write_masks(root / "masks", {"training": 1, "validation": 4}),
    }
    for task, path in CONFIGS.items():
        torch.manual_seed(0)
        options = {"data_root": str(data[task]), "val_dataloader.num_workers": 0}
        if task == "segmentation":
            options["classes"] = NAMES[task]
            options |= {f"{s}_dataloader.dataset.metainfo": None for s in ("train", "val")}
            options["model.decode_head.loss_decode.class_weight"] = None
        if task != "classification":
            options["val_dataloader.persistent_workers"] = False
        cfg = load_config(path, options)
        model = task_for(cfg).build_model(cfg)
        own = own_meta(model, None, None, task=task, classes=NAMES[task], config=cfg.to_dict())
        meta = dict(ziggurat=own, dataset_meta=dict(classes=NAMES[task]))
        torch.save({"state_dict": model.state_dict(), "meta": meta}, root / f"{task}.pth")
        images = sorted(p for p in data[task].rglob("*") if "val" in str(p) and p.suffix in (".png", ".jpg"))
        images = [p for p in images if "annotations" not in p.parts]
        made[task] = (cfg, root / f"{task}.pth", images)
    return made


def outputs_of_testing(cfg, checkpoint, batch_size, folder):
    """What tools/test.py's runner predicts, as mm's samples."""

    class Collect(Hook):
        outputs: list = []

        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.outputs += outputs

    cfg = copy.deepcopy(cfg)
    cfg.test_dataloader.batch_size = batch_size
    runner = build_testing(cfg, checkpoint, work_dir=folder, device="cpu")
    collect = Collect()
    runner.register_hook(collect)
    runner.test()
    return collect.outputs


def assert_equal(a, b):
    assert type(a) is type(b) and a.names == b.names
    for field in ARRAYS:
        left, right = getattr(a, field, None), getattr(b, field, None)
        assert (left is None) == (right is None), field
        if left is not None:
            assert left.dtype == right.dtype and left.shape == right.shape, field
            assert np.array_equal(left, right), field


def assert_near(a, b):
    """Two results differ by rounding alone. A batch of another size adds in another order."""
    for field in ARRAYS:
        left, right = getattr(a, field, None), getattr(b, field, None)
        if left is not None:
            assert left.shape == right.shape, field
            np.testing.assert_allclose(left.astype(float), right.astype(float), rtol=1e-4, atol=1e-3)


def differ(a, b):
    pairs = [(getattr(a, field, None), getattr(b, field, None)) for field in ARRAYS]
    return any(left is not None and not np.array_equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_answers_are_those_of_testing(task, batch_size, models, tmp_path):
    cfg, checkpoint, images = models[task]
    predictor = engine.Predictor(cfg, checkpoint, batch_size=batch_size)
    found = predictor(images)
    outputs = outputs_of_testing(cfg, checkpoint, batch_size, tmp_path)
    assert len(found) == len(outputs) == 4
    for one, output in zip(found, outputs, strict=True):
        assert_equal(one, predictor.task.result(output, predictor.names))
    if task == "detection":
        assert len(found[0].boxes)


@pytest.mark.parametrize("task", TASKS)
def test_any_form_of_an_image_gives_the_same_answer(task, models):
    cfg, checkpoint, (path, *_) = models[task]
    predictor = engine.Predictor(cfg, checkpoint)
    right = predictor(path)
    assert isinstance(right, RESULTS[task]) and predictor.names == NAMES[task]
    image = Image.open(path).convert("RGB")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for other in (str(path), image, array, array.astype(np.uint16) * 257, tensor, tensor.float() / 255):
        assert_equal(predictor(other), right)
    assert_equal(predictor(tensor[None])[0], right)
    several = predictor([path, image])
    assert len(several) == 2
    assert_equal(several[1], right)
    assert predictor([]) == []


@pytest.mark.parametrize("task", TASKS)
def test_a_checkpoint_of_ours_needs_no_config(task, models):
    cfg, checkpoint, images = models[task]
    alone = engine.Predictor(checkpoint, cfg_options={"test_dataloader.batch_size": 3})
    assert alone.cfg.test_dataloader.batch_size == 3 and alone.task.name == task
    assert_equal(alone(images[0]), engine.Predictor(cfg, checkpoint)(images[0]))


@pytest.mark.parametrize("task", TASKS)
def test_only_images_of_one_size_share_a_batch(task, models):
    """Padding would change the answers at the borders. Random networks put many values near a threshold, so that
    rounding, which differs between batches, is allowed for."""
    cfg, checkpoint, _ = models[task]
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (64, 96), (64, 64), (100, 70), (64, 96), (64, 64), (64, 64)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    predictor = engine.Predictor(cfg, checkpoint, batch_size=3)
    batches = [numbers for numbers, _ in batches_of(images, predictor.sample, predictor.batch_size, 0)]
    if task == "classification":  # which resizes all images to one size
        assert batches == [[0, 1, 2], [3, 4, 5], [6]]
    else:
        assert batches == [[0, 2, 5], [1, 4], [3], [6]]
    for one, image in zip(predictor(images), images, strict=True):
        alone = predictor(image)
        if task == "classification":
            scores, wanted = np.empty_like(one.scores), np.empty_like(one.scores)
            scores[one.labels], wanted[alone.labels] = one.scores, alone.scores
            np.testing.assert_allclose(scores, wanted, atol=1e-6)
        elif task == "segmentation":
            assert one.class_map.shape == image.shape[:2] and (one.class_map != alone.class_map).mean() < 1e-3
        else:
            assert one.size == image.shape[:2] and one.masks.shape[1:] == image.shape[:2]


@pytest.mark.parametrize("task", TASKS)
def test_results_are_drawn_and_described(task, models):
    import json

    cfg, checkpoint, (path, *_) = models[task]
    predictor = engine.Predictor(cfg, checkpoint)
    result = predictor(path)
    json.dumps(predictor.describe(result))
    picture = predictor.draw(path, result)
    assert picture.width >= 480 and np.asarray(picture).std() > 10
    assert np.array_equal(np.asarray(picture), np.asarray(predictor.draw(Image.open(path), result)))


def test_a_threshold_keeps_the_better_objects(models):
    cfg, checkpoint, (path, *_) = models["detection"]
    found = engine.Predictor(cfg, checkpoint)(path)
    middle = float(np.median(found.scores))
    kept = found.above(middle)
    assert 0 < len(kept.scores) < len(found.scores) and kept.scores.min() >= middle
    assert len(kept.boxes) == len(kept.names) == len(kept.labels) == len(kept.masks) == len(kept.scores)


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((40, 40, 4), np.uint8), r"image is \(40, 40, 4\); allowed"),
        (np.zeros((1, 40, 40, 3), np.uint8), r"image is \(1, 40, 40, 3\); allowed"),
        (np.full((40, 40, 3), 200.0, np.float32), "values from 200 to 200; allowed"),
        (np.zeros((31, 40, 3), np.uint8), "image is 40x31 pixels; allowed"),
        (torch.zeros(40, 40), r"image is \(40, 40\); allowed"),
        ("gone.png", "no such image: gone.png"),
        (7, "image is int; allowed"),
    ],
)
def test_what_is_no_image_is_named(image, words, models):
    cfg, checkpoint, _ = models["classification"]
    with pytest.raises(UserError, match=words):
        engine.Predictor(cfg, checkpoint)([image])


def test_grey_pixels_in_memory_are_taken_three_times():
    grey = np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40
    assert np.array_equal(pixels_of(grey), (grey // 256).astype(np.uint8)[..., None].repeat(3, 2))


def test_a_config_that_is_given_is_not_changed(models, tmp_path):
    cfg, checkpoint, _ = models["detection"]
    before = copy.deepcopy(cfg.to_dict())
    content = torch.load(checkpoint)
    content["meta"]["ziggurat"]["classes"] = ["one", "two", "three"]
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not fit"):
        engine.Predictor(cfg, tmp_path / "other.pth")
    assert cfg.to_dict() == before


def test_what_cannot_be_loaded_is_one_line(models, tmp_path):
    cfg, checkpoint, _ = models["detection"]
    content = torch.load(checkpoint)
    with pytest.raises(UserError, match="is a config; a checkpoint is needed too"):
        engine.Predictor(CONFIGS["detection"])
    with pytest.raises(UserError, match="does not fit"):
        engine.Predictor(cfg, models["segmentation"][1])
    with pytest.raises(UserError, match="batch_size is 0"):
        engine.Predictor(cfg, checkpoint, batch_size=0)
    del content["meta"]["ziggurat"]
    content["meta"]["cfg"] = cfg.pretty_text  # text of a checkpoint is not run
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(UserError, match=r"foreign\.pth carries no config"):
        engine.Predictor(tmp_path / "foreign.pth")


@pytest.mark.parametrize("name", ["os.mkdir", "builtins.eval", "mmdet.apis.inference.init_detector", "a b"])
def test_a_checkpoint_cannot_name_code_to_run(name, models, tmp_path, monkeypatch):
    content = torch.load(models["detection"][1])
    target = tmp_path / "made"
    content["meta"]["ziggurat"]["config"]["model"]["neck"] = dict(type=name, path=str(target))
    torch.save(content, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match=r"hostile\.pth: model.neck.type is"):
        engine.Predictor(tmp_path / "hostile.pth")
    assert not target.exists()


def test_a_checkpoint_cannot_name_modules_to_import(models, tmp_path):
    content = torch.load(models["detection"][1])
    content["meta"]["ziggurat"]["config"]["custom_imports"] = dict(imports=["detection", "antigravity"])
    torch.save(content, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match="imports antigravity; give the config as a file"):
        engine.Predictor(tmp_path / "hostile.pth")
    assert "antigravity" not in sys.modules


def test_the_clone_has_the_name_of_the_contract():
    code = "import engine; from ziggurat.engine.predictor import Predictor; assert engine.Predictor is Predictor"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_importing_engine_is_light():
    code = "import sys; from ziggurat import engine; assert not {'torch', 'mmengine'} & set(sys.modules)"
    code += "; engine.Predictor; print('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr


def with_needless_none(part):
    """A part of a config as it is for a checkpoint that brings all weights."""
    if isinstance(part, dict):
        return {key: None if key in NEEDLESS else with_needless_none(value) for key, value in part.items()}
    return type(part)(map(with_needless_none, part)) if isinstance(part, list | tuple) else part


@pytest.mark.parametrize("task", TASKS)
def test_a_config_goes_through_a_checkpoint_of_either_kind_unchanged(task, models, tmp_path):
    cfg, checkpoint, images = models[task]
    content = torch.load(checkpoint)
    own = from_json(to_json(content["meta"]["ziggurat"]))
    restored = config_from(own["config"], "checkpoint")
    assert restored.custom_imports == dict(imports=[task])
    assert with_needless_none(restored.model) == with_needless_none(cfg.model)
    kept, whole = restored.test_dataloader, cfg.test_dataloader
    assert kept.get("collate_fn") == whole.get("collate_fn")
    for name in ("pipeline", "transform", "metainfo", "classes"):
        assert with_needless_none(kept.dataset.get(name)) == with_needless_none(whole.dataset.get(name))
    save_safely({**content["state_dict"], "meta": content["meta"]}, tmp_path / "model.safetensors")
    assert_equal(engine.Predictor(tmp_path / "model.safetensors")(images[0]), engine.Predictor(checkpoint)(images[0]))


def test_device_0_is_a_gpu(models):
    cfg, checkpoint, _ = models["classification"]
    if torch.cuda.is_available():
        assert engine.Predictor(cfg, checkpoint, device=0).device == torch.device("cuda:0")
    else:
        with pytest.raises(UserError, match="device '0' is not available"):
            engine.Predictor(cfg, checkpoint, device=0)
    assert engine.Predictor(cfg, checkpoint).device == torch.device("cpu")


CONTRADICTIONS = {
    "classification": [{"model.num_classes": 3}, {"model": {"num_classes": 3}}, {"classes": ["a", "b"]}],
    "detection": [["model.roi_head.bbox_head.num_classes=3"]],
    "segmentation": [{"model.decode_head.num_classes": 7}],
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_an_option_that_the_checkpoint_overrules_is_refused(task, alone, models):
    cfg, checkpoint, _ = models[task]
    model = [checkpoint] if alone else [cfg, checkpoint]
    for options in (*CONTRADICTIONS[task], {"model.backbone.norm_eps": 1e-2}):
        with pytest.raises(UserError, match=rf"option .*contradicts .*{task}\.pth, which has"):
            engine.Predictor(*model, cfg_options=options)
    agreed = engine.Predictor(*model).model.backbone.norm_eps
    assert engine.Predictor(*model, cfg_options={"model.backbone.norm_eps": agreed}).model.backbone.norm_eps == agreed


def test_options_change_a_config_in_memory_too(models):
    cfg, checkpoint, _ = models["detection"]
    changed = engine.Predictor(cfg, checkpoint, cfg_options="model.test_cfg.rcnn.score_thr=0.75")
    assert changed.model.roi_head.test_cfg.score_thr == 0.75


@pytest.mark.parametrize("given", [None, 3, True, {}, b"a.pth", []])
def test_what_is_no_checkpoint_is_named(given, models):
    with pytest.raises(UserError, match=r"config_or_checkpoint is .*; allowed: the path"):
        engine.Predictor(given)
    if given is not None:
        with pytest.raises(UserError, match=r"checkpoint is .*; allowed: the path"):
            engine.Predictor(models["detection"][0], given)


@pytest.mark.parametrize(
    "name, value",
    [
        *(("batch_size", value) for value in (None, "2", 1.5, True, 0)),
        *(("cfg_options", value) for value in (3, [3], {3: 4}, "a", ["a"])),
        *(("device", value) for value in (True, [], "gpu")),
        *(("tta", value) for value in (None, 3, [], "", "twelve")),
    ],
)
def test_a_clumsy_argument_is_one_line(name, value, models):
    cfg, checkpoint, _ = models["classification"]
    with pytest.raises(UserError, match=r"allowed|no device") as caught:
        engine.Predictor(cfg, checkpoint, **{name: value})
    assert len(str(caught.value).splitlines()) == 1


def test_a_text_is_one_option(models):
    checkpoint = models["classification"][1]
    assert engine.Predictor(checkpoint, cfg_options="test_dataloader.batch_size=5").cfg.test_dataloader.batch_size == 5


def test_clumsy_images_are_one_line(models):
    cfg, checkpoint, (path, *_) = models["segmentation"]
    predictor = engine.Predictor(cfg, checkpoint)
    for images in (3, None, {"image": path}, b"abc", True):
        with pytest.raises(UserError, match=r"images is .*; allowed"):
            predictor(images)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    for kind in (object, "U4", "M8[s]", np.longdouble, complex, bool):
        with pytest.raises(UserError, match=r"image has values of type .*; allowed: integers or floats"):
            predictor(np.zeros(pixels.shape, kind))
    wide = pixels.astype(np.uint16) * 257
    assert_equal(predictor(wide.astype(">u2")), predictor(wide))
    assert_equal(predictor((pixels / 255).astype(">f8")), predictor(pixels))


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_result_of_another_image_is_not_drawn(task, models):
    cfg, checkpoint, (path, *_) = models[task]
    predictor = engine.Predictor(cfg, checkpoint)
    result = predictor(path)
    with pytest.raises(UserError, match=r"the result is of .* pixels, and the image 50x40; allowed"):
        predictor.draw(np.zeros((40, 50, 3), np.uint8), result)
    for other in (None, [result], Scores(np.ones(1), np.zeros(1, int), ["a"])):
        with pytest.raises(UserError, match=r"result is .*; allowed: \w+, the result of one image"):
            predictor.draw(path, other)


def test_an_image_too_narrow_after_preprocessing_is_named_with_its_own_size(models, tmp_path):
    cfg, checkpoint, _ = models["segmentation"]
    predictor = engine.Predictor(cfg, checkpoint)
    Image.new("RGB", (3000, 32)).save(tmp_path / "long.png")
    with pytest.raises(UserError, match=r"long\.png is 3000x32 pixels; after preprocessing, .*allowed: 32x32"):
        predictor(tmp_path / "long.png")
    with pytest.raises(UserError, match=r"image is 3000x32 pixels; after preprocessing"):
        predictor(np.zeros((32, 3000, 3), np.uint8))


def test_predictors_of_several_tasks_live_side_by_side(models, monkeypatch):
    """mmengine warns at each change of its current scope. Building leaves that scope alone."""
    init_default_scope("mmengine")
    said = []
    monkeypatch.setattr("mmengine.registry.utils.print_log", lambda message, *args, **kwargs: said.append(message))
    predictors = {task: engine.Predictor(*models[task][:2]) for task in TASKS}
    for task, predictor in predictors.items():
        assert isinstance(predictor(models[task][2][0]), RESULTS[task])
    assert DefaultScope.get_current_instance().scope_name == "mmengine"
    assert not said


@pytest.mark.parametrize(
    ("task", "views"),
    [("classification", "flip"), ("classification", "ten"), ("detection", True), ("segmentation", True)],
)
def test_augmented_answers_are_those_of_testing(task, views, models, tmp_path):
    cfg, checkpoint, images = models[task]
    for model in ([cfg, checkpoint], [checkpoint]):
        predictor = engine.Predictor(*model, batch_size=2, tta=views)
        found = predictor(images)
    augmented = copy.deepcopy(cfg)
    predictor.task.use_tta(augmented, None if views is True else views)
    outputs = outputs_of_testing(augmented, checkpoint, 1, tmp_path)
    plain = engine.Predictor(cfg, checkpoint)(images)
    for one, output in zip(found, outputs, strict=True):
        assert_near(one, predictor.task.result(output, predictor.names))
    assert any(differ(one, other) for one, other in zip(found, plain, strict=True))


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_tiles_of_a_large_image(task, models):
    """An image that fits one tile has the answer of a whole pass. The answer for another one is of the whole image."""
    cfg, checkpoint, (path, *_) = models[task]
    for model in ([checkpoint], [cfg, checkpoint]):
        tiled = engine.Predictor(*model, tile=256, batch_size=2)
        one, whole = tiled(path), engine.Predictor(cfg, checkpoint)(path)
        if task == "detection":
            assert one.masks.shape == whole.masks.shape and len(one.above(0.3).masks) == len(one.above(0.3).boxes)
            one = replace(one, masks=np.asarray(one.masks))
        assert_equal(one, whole)
    large = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    tiled = engine.Predictor(cfg, checkpoint, tile=64, batch_size=2)
    found = tiled(large)
    assert tiled.draw(large, found).size == tiled.draw(large, engine.Predictor(cfg, checkpoint)(large)).size
    if task == "detection":
        assert [mask["size"] for mask in tiled.describe(found)["masks"]] == [[100, 150]] * len(found.boxes)


@pytest.mark.parametrize("task", TASKS)
def test_a_file_of_a_backbone_alone_is_named_as_such(task, models, tmp_path):
    content = torch.load(models[task][1])
    state = {k.removeprefix("backbone."): v for k, v in content["state_dict"].items() if k.startswith("backbone.")}
    torch.save({"state_dict": state, "meta": content["meta"]}, tmp_path / "net.pth")
    save_safely({**state, "meta": content["meta"]}, tmp_path / "net.safetensors")
    for path in (tmp_path / "net.pth", tmp_path / "net.safetensors"):
        for model in ([path], [models[task][0], path]):
            with pytest.raises(UserError, match=rf"{path.name} holds only a backbone"):
                engine.Predictor(*model)
