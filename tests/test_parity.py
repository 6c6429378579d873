"""Same weights, same answers: every published format, filled by the fixed rule, gives the official code's outputs.

The golden files hold outputs of the official repositories, mmpretrain and transformers, in float32 and float64; the
float64 ones also tell the norms' eps apart.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import PARITY, load_fill

import backbones
from backbones import UserError, convert
from backbones.registry import family_of
from classification import create_classifier

FILL = load_fill()
ARCHS = backbones.list_archs()


def parity_files(kind, suffix):
    """Name without suffix -> path, for the files of networks that there are."""
    paths = [path for folder in PARITY for path in sorted((folder / kind).glob(f"*{suffix}"))]
    return {path.name.removesuffix(suffix): path for path in paths if path.name.split(".")[0] in ARCHS}


GOLDEN = parity_files("golden", ".npz")
KEYS = parity_files("keys", ".json")


def limits(variant, golden):
    """The largest relative rms in float32 (None: neighbours may swap, nothing can be compared) and in float64."""
    family = variant.split("_")[0]
    if family in ("pvig", "vig"):
        return 1e-4 if family == "pvig" and golden["float32_stable"] else None, 1e-9
    return 1e-5, 1e-6 if family == "vvt" or "_gf" in variant else 1e-10


def checkpoint(name):
    """The state dict of ``<variant>.<source>`` with exactly the published names and shapes."""
    listed = json.loads(KEYS[name].read_text())
    state = {}
    for key, shape in listed["tensors"].items():
        if key in listed["kept"]:
            state[key] = relative_pos_table(name.split(".")[0], shape)
        else:
            state[key] = torch.from_numpy(FILL.fill(key, tuple(shape)))
    return {key: value.long() if key.endswith("num_batches_tracked") else value for key, value in state.items()}


def relative_pos_table(variant, shape):
    """A frozen table of Pyramid ViG as published: the Gram matrix of 2-D sine-cosine codes, resized as an image."""
    _, nodes, candidates = shape
    side = round(nodes**0.5)
    dim = family_of(variant).ARCHS[variant].embed_dims[{56: 0, 28: 1, 14: 2, 7: 3}[side]]
    frequencies = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float64) / (dim / 4.0))
    y, x = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    angles = [position.reshape(-1, 1) * frequencies for position in (x, y)]
    codes = np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1)
    table = torch.from_numpy((codes @ codes.T * 2 / dim).astype(np.float32))
    return -F.interpolate(table[None, None], size=(nodes, candidates), mode="bicubic", align_corners=False)[0]


def sampled(tensor):
    flat = tensor.detach().contiguous().flatten().numpy()
    return flat[np.linspace(0, flat.size - 1, 512).astype(int)] if flat.size > 1000 else flat


def relative_rms(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def load_golden(name):
    """The stored arrays, the image they were made from, and the limits."""
    golden = np.load(GOLDEN[name])
    image = torch.from_numpy(FILL.image(int(golden["height"]), int(golden["width"]), int(golden["seed"])))
    return golden, image, *limits(name.split(".")[0], golden)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_maps_equal_the_official_ones(name):
    golden, image, float32, float64 = load_golden(name)
    net = backbones.create_backbone(name.split(".")[0]).eval()
    backbones.load_weights(net, checkpoint(name.removesuffix(".160x224")))
    with torch.no_grad():
        if float32:
            for i, stage in enumerate(net(image)):
                assert relative_rms(sampled(stage), golden[f"stage{i}_values"]) < float32
        for network in (net.double(), net.fuse()):
            for i, stage in enumerate(network(image.double())):
                assert list(stage.shape) == list(golden[f"stage{i}_shape"])
                assert relative_rms(sampled(stage), golden[f"stage{i}_values_f64"]) < float64


@pytest.mark.parametrize("name", sorted(n for n in GOLDEN if "official-" not in n))
def test_logits_equal_the_official_ones(name):
    golden, image, float32, float64 = load_golden(name)
    clf = create_classifier(name.split(".")[0]).eval()
    backbones.load_weights(clf, checkpoint(name.removesuffix(".160x224")))
    with torch.no_grad():
        if float32:
            assert relative_rms(clf(image)[0].numpy(), golden["logits"].ravel()) < float32
        assert relative_rms(clf.double()(image.double())[0].numpy(), golden["logits_f64"].ravel()) < float64


def on_meta(name):
    """A network without values for ``<variant>.<source>`` and the checkpoint's, with what its file says of it."""
    listed = json.loads(KEYS[name].read_text())
    variant = name.split(".")[0]
    has_head = any(key.startswith(("head.", "classifier.", "prediction.")) for key in listed["tensors"])
    with torch.device("meta"):
        model = create_classifier(variant) if has_head else backbones.create_backbone(variant)
        state = {key: torch.empty(shape) for key, shape in listed["tensors"].items()}
    return model, state, listed


@pytest.mark.parametrize("name", sorted(KEYS))
def test_every_published_tensor_has_its_place(name):
    """On the meta device: names and shapes of all variants, the big ones too."""
    model, state, listed = on_meta(name)
    report = backbones.load_weights(model, state)
    # HorNet's detection and segmentation repositories write the same names, so either word is right for both.
    assert report.source == name.split(".")[1].replace("official-det", "official-seg")
    assert report.missing == []
    dead = [key for key in state if key.startswith("van.layernorm.")]
    assert report.unexpected == dead + listed["kept"]
    left_out = sum(state[key].numel() for key in report.unexpected)
    assert sum(p.numel() for p in model.parameters()) + left_out == listed["params_total"]
    left_out = sum(state[key].numel() for key in dead)
    assert sum(p.numel() for p in model.parameters()) + left_out == listed["params_trainable"]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_checkpoints_convert_back(name):
    """Ours -> theirs inverts theirs -> ours, so a checkpoint can be written in every format it can be read in."""
    variant, source = name.split(".")
    row = family_of(variant).ARCHS[variant]
    model, state, _ = on_meta(name)
    backbones.load_weights(model, state)
    ours = {key.removeprefix("backbone."): value for key, value in model.state_dict().items()}
    written, left_out = convert.write_state(variant, row, ours, source)
    assert left_out == []
    shapes = {key: value.shape for key, value in state.items() if not key.startswith("van.layernorm.")}
    assert {key: value.shape for key, value in written.items()} == shapes


@pytest.mark.parametrize("name", sorted(name for name in KEYS if name.startswith("pvig_tiny")))
def test_stored_tables_are_checked_and_written_back(name):
    """The relative positions of Pyramid ViG are computed here; checkpoints store them."""
    variant, source = name.split(".")
    state = checkpoint(name)
    tables = json.loads(KEYS[name].read_text())["kept"]
    clf = create_classifier(variant)
    assert backbones.load_weights(clf, state).unexpected == tables
    ours = {key.removeprefix("backbone."): value for key, value in clf.state_dict().items()}
    written, _ = convert.write_state(variant, family_of(variant).ARCHS[variant], ours, source)
    for key in state:
        torch.testing.assert_close(written[key], state[key], rtol=0, atol=1e-6 if key in tables else 0)
    state[tables[0]] = state[tables[0]] + 1e-3
    with pytest.raises(UserError, match=f"{tables[0]} differs"):
        backbones.load_weights(create_classifier(variant), state)


@pytest.mark.parametrize("rows", [999, 10459])
def test_a_head_of_another_size(rows):
    """As the 22k models have: the backbone loads and the report names the head; a head of that size takes it."""
    state = checkpoint("hornet_tiny_7x7.official")
    state |= {"head.weight": torch.randn(rows, 512), "head.bias": torch.zeros(rows)}
    with pytest.warns(UserWarning, match="head"):
        report = backbones.load_weights(create_classifier("hornet_tiny_7x7"), state)
    assert (report.missing, report.unexpected) == (["head.fc.weight", "head.fc.bias"], ["head.weight", "head.bias"])
    report = backbones.load_weights(create_classifier("hornet_tiny_7x7", num_classes=rows), state)
    assert (report.missing, report.unexpected) == ([], [])
