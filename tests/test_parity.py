"""Same weights, same answers: every published format, filled by the fixed rule, gives the official code's outputs.

The golden files hold outputs of the official repositories, mmpretrain and transformers, in float32 and float64; the
float64 ones also tell the norms' eps apart.
"""

import json

import numpy as np
import pytest
import torch
from conftest import PARITY, load_fill

import backbones
from classification import create_classifier

FILL = load_fill()
FAMILY = "van_*"
GOLDEN = {path.stem: path for folder in PARITY for path in sorted(folder.glob(f"golden/{FAMILY}.npz"))}
KEYS = {path.stem: path for folder in PARITY for path in sorted(folder.glob(f"keys/{FAMILY}.json"))}
FLOAT32, FLOAT64 = 1e-5, 1e-10


def checkpoint(name):
    """The state dict of ``<variant>.<source>`` with exactly the published names and shapes."""
    tensors = json.loads(KEYS[name].read_text())["tensors"]
    state = {key: torch.from_numpy(FILL.fill(key, tuple(shape))) for key, shape in tensors.items()}
    return {key: value.long() if key.endswith("num_batches_tracked") else value for key, value in state.items()}


def sampled(tensor):
    flat = tensor.detach().contiguous().flatten().numpy()
    return flat[np.linspace(0, flat.size - 1, 512).astype(int)] if flat.size > 1000 else flat


def relative_rms(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_maps_equal_the_official_ones(name):
    golden = np.load(GOLDEN[name])
    state = checkpoint(name.removesuffix(".160x224"))
    variant, source = name.split(".")[:2]
    net = backbones.create_backbone(variant).eval()
    assert backbones.load_weights(net, state).source == source
    image = torch.from_numpy(FILL.image(int(golden["height"]), int(golden["width"]), int(golden["seed"])))
    with torch.no_grad():
        for suffix, limit, maps in (("", FLOAT32, net(image)), ("_f64", FLOAT64, net.double()(image.double()))):
            for i, stage in enumerate(maps):
                assert list(stage.shape) == list(golden[f"stage{i}_shape"])
                assert relative_rms(sampled(stage), golden[f"stage{i}_values{suffix}"]) < limit
        for i, stage in enumerate(net.fuse()(image.double())):
            assert relative_rms(sampled(stage), golden[f"stage{i}_values_f64"]) < FLOAT64


@pytest.mark.parametrize("name", sorted(n for n in GOLDEN if "official-" not in n))
def test_logits_equal_the_official_ones(name):
    golden = np.load(GOLDEN[name])
    clf = create_classifier(name.split(".")[0]).eval()
    backbones.load_weights(clf, checkpoint(name.removesuffix(".160x224")))
    image = torch.from_numpy(FILL.image(int(golden["height"]), int(golden["width"]), int(golden["seed"])))
    with torch.no_grad():
        assert relative_rms(clf(image)[0].numpy(), golden["logits"][..., :].ravel()) < FLOAT32
        assert relative_rms(clf.double()(image.double())[0].numpy(), golden["logits_f64"].ravel()) < FLOAT64


@pytest.mark.parametrize("name", sorted(KEYS))
def test_every_published_tensor_has_its_place(name):
    """On the meta device: names and shapes of all variants, the big ones too."""
    listed = json.loads(KEYS[name].read_text())
    variant, source = name.split(".")
    has_head = any(key.startswith(("head.", "classifier.")) for key in listed["tensors"])
    with torch.device("meta"):
        model = create_classifier(variant) if has_head else backbones.create_backbone(variant)
        state = {key: torch.empty(shape) for key, shape in listed["tensors"].items()}
    report = backbones.load_weights(model, state)
    assert report.source == source
    assert report.missing == []
    dead = ["van.layernorm.weight", "van.layernorm.bias"] if source == "huggingface" else []
    assert report.unexpected == dead
    unused = sum(state[key].numel() for key in dead)
    assert sum(p.numel() for p in model.parameters()) + unused == listed["params_total"]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_names_convert_back(name):
    """Ours -> theirs inverts theirs -> ours, so a checkpoint can be written in every format it can be read in."""
    variant, source = name.split(".")
    keys = [key for key in json.loads(KEYS[name].read_text())["tensors"] if not key.startswith("van.layernorm.")]
    depths = backbones.VAN.ARCHS[variant].depths
    found, ours, _ = backbones.convert.read_names(variant, depths, keys)
    assert found == source
    theirs = backbones.convert.write_names(variant, depths, ours.values(), source)
    assert [theirs[ours[key]] for key in keys] == keys
