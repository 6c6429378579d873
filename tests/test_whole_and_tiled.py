"""``tile`` works with every head of detection and segmentation, and TTA with every head that mm supports it for.

An image that fits one tile has the answer of a whole pass, exactly.
"""

import copy

import numpy as np
import pytest
import small_heads
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS
from small_heads import built, config_of, image_of, predicted
from torch.nn.functional import interpolate

from backbones import UserError
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_for
from ziggurat.engine.tiles import Tiles

HEADS = [("detection", head) for head in small_heads.DETECTORS] + [("segmentation", h) for h in small_heads.SEGMENTERS]
NAMES = {"detection": ["box", "disc"], "segmentation": ["box", "disc", "background"]}


@pytest.fixture(scope="module")
def models():
    """The config, the model and a whole pass of each head, made when first asked for."""
    made = {}

    def of(task, head):
        if (task, head) not in made:
            known = small_heads.DETECTORS if task == "detection" else small_heads.SEGMENTERS
            cfg = config_of(task, *known[head])
            model = built(cfg)
            made[task, head] = cfg, model, predicted(cfg, model, image_of())
        return made[task, head]

    return of


@pytest.fixture(autouse=True)
def shallow_at_root(monkeypatch, cut_depths, request):
    monkeypatch.chdir(request.config.rootpath)
    for arch in ("van_b0", "hornet_small_7x7"):
        cut_depths(arch, (1, 1, 1, 1))


def changed(cfg, change):
    cfg = copy.deepcopy(cfg)
    change(task_for(cfg), cfg)
    return cfg


def adopted(cfg, model):
    """The model of a config with the network of another, which is not built again."""

    def made(part):
        if "module" in part:
            with task_for(cfg).scoped(cfg):
                return MODELS.build({**part, "module": made(part["module"])}).eval()
        network = copy.copy(model)
        network.test_cfg = part.get("test_cfg")
        return network

    return made(cfg.model)


@pytest.mark.parametrize(("task", "head"), HEADS, ids=[head for _, head in HEADS])
def test_every_head_takes_tiles(task, head, models):
    cfg, model, whole = models(task, head)

    def by_tiles(size, image, way="use_tiles"):
        other = changed(cfg, lambda task, cfg: getattr(task, way)(cfg, Tiles(size, 0.5)))
        return task_for(cfg).result(predicted(other, adopted(other, model), image), NAMES[task])

    whole, one = task_for(cfg).result(whole, NAMES[task]), by_tiles(64, image_of())
    if task == "segmentation":
        np.testing.assert_array_equal(one.class_map, whole.class_map)
        np.testing.assert_array_equal(by_tiles(64, image_of(), "predict_on_tiles").class_map, whole.class_map)
        assert by_tiles(48, image_of(64, 96), "predict_on_tiles").class_map.shape == (64, 96)
        np.testing.assert_array_equal(by_tiles(48, image_of(64, 96)).class_map, by_mmseg(cfg, model, image_of(64, 96)))
        return
    assert len(whole.boxes) >= 2
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(whole, name))
    assert (one.masks is None) == (whole.masks is None)
    if one.masks is not None:
        np.testing.assert_array_equal(np.asarray(one.masks), whole.masks)
    several = by_tiles(48, image_of(64, 96))
    assert several.size == (64, 96) and len(several.boxes) > 0 and (several.boxes[:, 2:] <= (96, 64)).all()


def by_mmseg(cfg, model, image):
    """The classes by mmseg's own sliding windows of 48 pixels, a half of which neighbours share."""
    model = copy.copy(model)
    model.test_cfg = ConfigDict(mode="slide", crop_size=(48, 48), stride=(24, 24))
    with task_for(cfg).scoped(cfg):
        sample = task_for(cfg).preprocessing(cfg)(image)
    inputs = model.data_preprocessor(pseudo_collate([sample]))["inputs"]
    torch.manual_seed(0)
    with torch.no_grad():
        scores = model.slide_inference(inputs, [dict(img_shape=inputs.shape[2:])])
    return interpolate(scores, image.shape[:2], mode="bilinear").argmax(1)[0].numpy()


@pytest.mark.parametrize(("task", "head"), HEADS, ids=[head for _, head in HEADS])
def test_every_head_takes_tta(task, head, models):
    cfg, model, whole = models(task, head)
    other = changed(cfg, lambda task, cfg: task.use_tta(cfg))
    found = predicted(other, adopted(other, model), image_of())
    names = NAMES[task]
    one, many = task_for(cfg).result(whole, names), task_for(cfg).result(found, names)
    if task == "segmentation":
        assert many.class_map.shape == one.class_map.shape
    else:
        assert 0 < len(many.boxes) <= 100 and np.isfinite(many.boxes).all()
        assert (many.masks is None) == (one.masks is None)
        if one.masks is None:
            mm = changed(cfg, lambda task, cfg: (cfg.tta_model.update(type="DetTTAModel"), task.use_tta(cfg)))
            theirs = task_for(cfg).result(predicted(mm, adopted(mm, model), image_of()), names)
            np.testing.assert_array_equal(many.boxes, theirs.boxes)
            np.testing.assert_array_equal(many.scores, theirs.scores)
    both = changed(other, lambda task, cfg: task.use_tiles(cfg, Tiles(48)))
    assert predicted(both, adopted(both, model), image_of()).ori_shape == (48, 64)


def test_panoptic_models_are_refused():
    cfg = load_config(f"detection/configs/{small_heads.PANOPTIC}.py")
    with pytest.raises(UserError, match=r"--tta: panoptic maps"):
        task_for(cfg).use_tta(cfg)
    with pytest.raises(UserError, match="panoptic"):
        task_for(cfg).use_tiles(cfg, Tiles(64))
