"""The structure that weights fix.

In testing and resuming the checkpoint decides the structure, otherwise the config. A run's config names the structure.
"""

import pytest
import torch

from backbones import UserError, create_backbone
from backbones.weights import own_meta
from ziggurat.engine.checkpoints import load_state
from ziggurat.engine.structure import settle_structure, write_structure

ARCH = "hornet_tiny_gf"


@pytest.fixture
def make(cut_depths):
    """Makes a model with a HorNet of one block a stage as its backbone."""
    cut_depths(ARCH, (1, 1, 1, 1))

    def make(**arguments):
        model = torch.nn.Module()
        model.backbone = create_backbone(ARCH, **arguments).eval()
        return model

    return make


@pytest.fixture
def checkpoint(make):
    trained = make(filter_sizes=(None, None, (6, 4), (3, 2)), out_norm=True)
    return trained, {"state_dict": trained.state_dict(), "meta": {"ziggurat": own_meta(trained, None, None)}}


@pytest.mark.parametrize("configured", [{}, {"out_norm": False}, {"filter_sizes": (None, None, (14, 8), (7, 4))}])
def test_an_exact_load_follows_the_checkpoint(make, checkpoint, configured):
    trained, content = checkpoint
    model = make(**configured)
    settle_structure(model, content, exact=True)
    settled = dict(model.backbone.named_parameters())
    own = content["meta"]["ziggurat"]
    assert load_state(model, content["state_dict"], "x.pth", exact=True, own=own) == ""
    assert model.backbone.arguments() == trained.backbone.arguments()
    now = dict(model.backbone.named_parameters())
    assert now.keys() == settled.keys() and all(now[name] is settled[name] for name in now), "an optimiser has these"
    x = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.backbone(x), trained.backbone(x), strict=True))


def test_load_from_leaves_what_the_config_says(make, checkpoint):
    _, content = checkpoint
    model = make(out_norm=False)
    settle_structure(model, content, exact=False)
    assert not model.backbone.arguments()["out_norm"]
    with pytest.raises(UserError, match=r"x\.pth does not fit the model's backbone: .*out_norms"):
        load_state(model, content["state_dict"], "x.pth", exact=False, own=content["meta"]["ziggurat"])


def test_a_config_gets_the_structure_in_plain_values(checkpoint):
    trained, _ = checkpoint
    backbone, other = dict(type="HorNet", arch=ARCH), dict(type="mmdet.FPN", out_channels=8)
    write_structure(dict(type="Wrapped", module=[dict(backbone=backbone, neck=other)]), trained)
    sizes = [None, None, [6, 4], [3, 2]]
    assert backbone == dict(type="HorNet", arch=ARCH, filter_sizes=sizes, out_norm=True)
    assert other == dict(type="mmdet.FPN", out_channels=8)
