"""Published detectors and segmenters: files of mmdet 2 and mmseg 0, whose backbones have the authors' names."""

import importlib
import json
from pathlib import Path

import dense_data
import pytest
import test as test_tool
import torch
from conftest import PARITY
from helpers import run
from mmengine.registry import init_default_scope

from backbones import UserError
from backbones.convert import write_state
from backbones.weights.fetch import fetch_first
from detection.weights import WEIGHTS as DETECTORS
from segmentation.weights import WEIGHTS as SEGMENTERS
from ziggurat.engine import Predictor
from ziggurat.engine.checkpoints import load_state
from ziggurat.engine.config import load_config
from ziggurat.engine.tasks import task_of

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("van", "hornet")  # those whose detectors and segmenters are published
LEAVES = sorted(path for task in ("detection", "segmentation") for path in ROOT.glob(f"{task}/configs/*/*.py"))
LEAVES = {  # one for each task, head and family
    (path.parts[-4], path.stem.split(f"_{path.parent.name}_")[0], path.parent.name): path
    for path in LEAVES
    if path.parent.name in FAMILIES
}
LAYOUTS = {"van": ("official-seg", "mmseg"), "hornet": ("official-seg",)}
KEYS = {path.name.removesuffix(".json"): path for folder in PARITY for path in (folder / "keys").glob("*.json")}


def build(path):
    cfg = load_config(path)
    library = {"detection": "mmdet", "segmentation": "mmseg"}[task_of(cfg)]
    init_default_scope(library)
    return importlib.import_module(f"{library}.registry").MODELS.build(cfg.model)


def published(model, source):
    """The tensors of a model as the authors' code saves them: the backbone by their names, the rest by mm's."""
    network = model.backbone
    written, left = write_state(network.arch, network.ARCHS[network.arch], network.state_dict(), source)
    assert left == []
    rest = {key: value for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    return {f"backbone.{key.removeprefix('backbone.')}": value for key, value in written.items()} | rest


@pytest.mark.parametrize("path", LEAVES.values(), ids=lambda path: path.stem)
def test_every_tensor_of_a_published_file_has_its_place(path):
    """With the shapes of the authors' files: HorNet's filters are larger for dense tasks than for classification."""
    with torch.device("meta"):
        model, target = build(path), build(path)
    for source in LAYOUTS[path.parent.name]:
        state, unused = published(model, source), set()
        listed = KEYS.get(f"{model.backbone.arch}.{source}")
        if listed:
            shapes = json.loads(listed.read_text())["tensors"]
            shapes = {f"backbone.{key.removeprefix('backbone.')}": shape for key, shape in shapes.items()}
            unused = set(shapes) - {key for key in state if key.startswith("backbone.")}
            assert all(key.startswith("backbone.norm0.") for key in unused)  # of a map that the head does not take
            state |= {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        assert load_state(target, state, "published.pth", exact=True) == ""
        loaded = target.backbone.state_dict()
        assert sum(value.numel() for value in loaded.values()) == sum(
            value.numel() for key, value in state.items() if key.startswith("backbone.") and key not in unused
        )


@pytest.fixture
def small_hornet(cut_depths):
    cut_depths("hornet_tiny_gf", (1, 1, 2, 1))


@pytest.mark.parametrize(
    ("leaf", "source"),
    [
        ("segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py", "official-seg"),
        ("segmentation/configs/van/semantic_fpn_van_b0_512x512_40k_ade20k.py", "mmseg"),
        ("segmentation/configs/hornet/upernet_hornet_tiny_gf_512x512_160k_ade20k.py", "official-seg"),
        ("detection/configs/hornet/cascade_mask_rcnn_hornet_tiny_gf_fpn_3x_coco.py", "official-seg"),
    ],
)
def test_a_published_file_is_the_model_that_wrote_it(leaf, source, small_hornet, tmp_path):
    model = build(ROOT / leaf)
    torch.manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 1.5)
    classes = tuple(f"class {i}" for i in range(80 if leaf.startswith("detection") else 150))
    meta = dict(mmseg_version="0.12.0", CLASSES=classes, PALETTE=[[0, 0, 0]] * len(classes), config="model = dict()")
    torch.save(
        dict(meta=meta, state_dict=published(model, source), optimizer=dict(state={})), tmp_path / "published.pth"
    )
    predictor = Predictor(ROOT / leaf, tmp_path / "published.pth")
    assert predictor.names == list(classes)
    ours, theirs = predictor.model.state_dict(), model.state_dict()
    assert set(ours) == set(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    eps = {module.eps for module in predictor.model.backbone.modules() if isinstance(module, torch.nn.LayerNorm)}
    assert eps == ({1e-5} if "van" in leaf else {1e-6})


def test_a_file_of_another_size_is_refused(tmp_path):
    leaf = "segmentation/configs/van/semantic_fpn_van_b{}_512x512_40k_ade20k.py"
    with torch.device("meta"):
        model, other = build(ROOT / leaf.format(0)), build(ROOT / leaf.format(1))
    with pytest.raises(UserError, match=r"published\.pth does not fit the model: \d+ tensors of another shape"):
        load_state(model, published(other, "official-seg"), "published.pth", exact=True)


@pytest.fixture
def served(monkeypatch, tmp_path):
    """The addresses that were asked for. Each gives the file published.pth."""
    asked = []
    monkeypatch.setattr("backbones.weights.fetch.fetch", lambda url: asked.append(url) or tmp_path / "published.pth")
    yield asked
    fetch_first.cache_clear()


def test_a_published_segmenter_predicts_and_is_tested_by_its_name(served, tmp_path, monkeypatch, capsys):
    name = "semantic_fpn_van_b0_512x512_40k_ade20k"
    model = build(ROOT / f"segmentation/configs/van/{name}.py")
    torch.save(dict(state_dict=published(model, "mmseg")), tmp_path / "published.pth")
    predictor = Predictor(name)
    assert served == [SEGMENTERS[name].urls[0]] and "Apache-2.0" in capsys.readouterr().err
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in predictor.model.state_dict().items())
    assert predictor.names[0] == "wall" and len(predictor.names) == 150

    data = dense_data.write_masks(tmp_path / "ade", {"training": 1, "validation": 1})
    options = [f"data_root={data}", "test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False"]
    arguments = [name, "--work-dir", tmp_path / "test", "--device", "cpu", "--cfg-options", *options]
    status, out, err = run(test_tool, arguments, monkeypatch, capsys)
    assert status == 0, err
    assert "mIoU" in out


def test_names_are_those_of_configs_and_others_are_refused(served, monkeypatch):
    for task, weights in (("detection", DETECTORS), ("segmentation", SEGMENTERS)):
        for name in weights:
            (path,) = ROOT.glob(f"{task}/configs/*/{name}.py")
            assert path.parent.name in FAMILIES
    with pytest.raises(
        UserError, match=r"no weights of mask_rcnn_van_b0_fpn_1x_coco are published; allowed: the config and a"
    ):
        Predictor("mask_rcnn_van_b0_fpn_1x_coco")
    with pytest.raises(UserError, match="no such config: mask_rcnn_van_b9_fpn_1x_coco; nearest"):
        Predictor("mask_rcnn_van_b9_fpn_1x_coco")
