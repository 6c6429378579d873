"""Pictures of what networks compute: the numbers behind them are those of the forward pass."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import SMALL
from PIL import Image

from backbones import UserError, create_backbone, show
from backbones.graph_layers import Grapher
from backbones.ops.vicinity import vicinity_attention_reference
from backbones.show import LINE, NODE, Look, channel, colours, heat, likeness, lines, strength


@pytest.fixture
def look(cut_depths):
    """What a network with two blocks in each stage computes for an image that is not square."""

    def make(arch, **options):
        cut_depths(arch, (2, 2, 2, 2))
        return Look(create_backbone(arch, **options), torch.randn(1, 3, 96, 64))

    return make


SEEN = {  # what the families have, of a network with two blocks a stage
    "van_b0": lambda look: look.attention(1, 1),
    "hornet_tiny_7x7": lambda look: look.gates(1, 1)[-1],
    "hornet_tiny_gf": lambda look: look.gates(2, 1)[-1],
    "pvig_tiny": lambda look: look.neighbours(1, 1, 2, 2),
    "vig_tiny": lambda look: look.neighbours(1, 1, 2, 2),
    "vvt_tiny": lambda look: look.vicinity(1, 1, 2, 2),
}


@pytest.mark.parametrize("arch", SMALL)
def test_a_fused_network_shows_the_same(look, arch):
    found = look(arch)
    plain = SEEN[arch](found)
    found.net.eval().fuse()
    torch.testing.assert_close(SEEN[arch](found), plain, rtol=1e-3, atol=1e-4)


def block_of(look, stage, block=0):
    return look.net.stages[stage].blocks[block]


@pytest.mark.parametrize("arch", SMALL)
def test_maps_are_those_of_the_network(look, arch):
    found = look(arch)
    assert found.net.training  # as it was
    with torch.no_grad():
        maps = found.net.eval()(found.image)
    assert all(torch.equal(ours, theirs[0]) for ours, theirs in zip(found.maps, maps, strict=True))
    assert not any(module._forward_hooks for module in found.net.modules())


@pytest.mark.parametrize("arch", SMALL)
def test_a_whole_look_shows_the_same_from_one_pass(look, arch, monkeypatch):
    found = look(arch, out_indices=(0, 1, 2, 3))
    whole = Look(found.net, found.image, whole=True)
    last = Look(create_backbone(arch, out_indices=(3,)), found.image, whole=True)
    assert [m.shape for m in last.maps] == [m.shape for m in found.maps]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole.maps, found.maps, strict=True))
    passes = []
    found.net.register_forward_pre_hook(lambda *_: passes.append(1))
    ours = SEEN[arch](whole)
    assert not passes
    assert torch.equal(ours, SEEN[arch](found)) and passes
    monkeypatch.setattr(show, "KEPT", 0)  # bytes
    assert torch.equal(SEEN[arch](Look(found.net, found.image, whole=True)), ours)
    assert not any(module._forward_hooks for module in found.net.modules())


def test_maps_of_a_whole_look_have_the_norms_of_the_network(look):
    found = look("hornet_tiny_7x7", out_norm=True, out_indices=(1, 3))
    whole = Look(found.net, found.image, whole=True)
    assert torch.equal(whole.maps[1], found.maps[0]) and torch.equal(whole.maps[3], found.maps[1])


def pooled_by(ratio, x):
    return F.avg_pool2d(x, ratio, ceil_mode=True, count_include_pad=False) if ratio > 1 else x


@pytest.mark.parametrize(("arch", "stage"), [("vig_tiny", 0), ("vig_tiny", 3), ("pvig_tiny", 0), ("pvig_tiny", 3)])
def test_neighbours_are_those_of_the_graph(look, arch, stage):
    found = look(arch)
    grapher = next(module for module in block_of(found, stage).modules() if isinstance(module, Grapher))
    _, [(_, x)] = found.run(grapher.fc1)
    height, width = x.shape[2:]
    index = grapher.neighbours(x, pooled_by(grapher.ratio, x))[0]
    # The middle of each window of candidates, by the mean of the positions themselves.
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    middles = (
        F.avg_pool2d(place, grapher.ratio, ceil_mode=True, count_include_pad=False) if grapher.ratio > 1 else place
    )
    for row, column in ((0, 0), (height - 1, width // 2)):
        ours = found.neighbours(stage, 0, row, column)
        assert torch.equal(ours.float(), middles.flatten(1)[:, index[row * width + column]].T)
        if grapher.ratio == 1 and grapher.native is None:  # the nearest of all is the node itself
            assert ours[0].tolist() == [row, column]


def test_attention_of_van_is_its_factor(look):
    found = look("van_b0")
    block = block_of(found, 1)
    _, [((x,), out)] = found.run(block.attn)
    with torch.no_grad():
        hidden = F.gelu(block.attn.proj_in(x))
        torch.testing.assert_close(block.attn.proj_out(hidden * found.attention(1, 0)), out)


@pytest.mark.parametrize("arch", ["hornet_tiny_7x7", "hornet_tiny_gf"])
def test_gates_of_hornet_make_its_product(look, arch):
    found = look(arch)
    gated = block_of(found, 2).gnconv
    _, [((x,), out)] = found.run(gated)
    first, *others = found.gates(2, 0)
    with torch.no_grad():
        y = gated.proj_in(x)[:, : gated.dims[0]] * first
        for pw, gate in zip(gated.pws, others, strict=True):
            y = pw(y) * gate
        torch.testing.assert_close(gated.proj_out(y), out)


def test_filters_of_hornet_have_the_lowest_frequency_in_the_middle(look):
    found = look("hornet_tiny_gf")
    weight = block_of(found, 2).gnconv.dwconv.complex_weight.detach()
    magnitude = found.filters(2, 0)
    assert magnitude.shape == weight.shape[:3]
    torch.testing.assert_close(magnitude[:, magnitude.shape[1] // 2, 0], weight[:, 0, 0].square().sum(-1).sqrt())


def test_vicinity_weighs_values_as_vvt_does(look):
    found = look("vvt_tiny")
    attention = block_of(found, 1).attn
    _, [(_, q), (_, k)] = found.run(attention.q_proj, attention.k_proj)
    q, k = (y.unflatten(1, (attention.num_heads, -1)).permute(0, 1, 3, 4, 2).double() for y in (q, k))
    weights = found.vicinity(1, 0, 2, 3, head=1)
    assert weights.sum() == pytest.approx(1, abs=1e-5) and (weights >= 0).all()
    values = torch.rand(*q.shape, dtype=torch.float64) + 1  # far from the clamps of small numbers
    out = vicinity_attention_reference(q, k, values)[0, 1, 2, 3]
    torch.testing.assert_close(torch.einsum("hw,hwd->d", weights.double(), values[0, 1]), out, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda look: look.neighbours(0, 0, 0, 0), "stage 0 of van_b0 has no graph"),
        (lambda look: look.gates(0, 0), "stage 0 of van_b0 has no gated convolution"),
        (lambda look: look.filters(0, 0), "stage 0 of van_b0 has no global filter"),
        (lambda look: look.vicinity(0, 0, 0, 0), "stage 0 of van_b0 has no vicinity attention"),
        (lambda look: look.attention(4, 0), "stage is 4; allowed: 0 to 3 of van_b0"),
        (lambda look: look.attention(True, 0), "stage is True"),
        (lambda look: look.attention(0, 2), "block is 2; allowed: 0 to 1 of stage 0 of van_b0"),
        (lambda look: likeness(look.maps[3], 3, 0), "row is 3; allowed: 0 to 2 of a map of 3x2"),
        (lambda look: channel(look.maps[3], 256), "channel is 256; allowed: 0 to 255"),
        (lambda look: colours(look.maps[3][:2]), "allowed: .C, H, W. with 3 channels or more"),
        (lambda look: heat(look.maps[3]), "allowed: .H, W."),
        (lambda look: Look(look.net, torch.randn(2, 3, 64, 64)), r"the image is \(2, 3, 64, 64\); allowed: one image"),
        (lambda look: Look(look.net, None), "the image is NoneType"),
    ],
)
def test_what_is_not_there_is_named(look, call, message):
    with pytest.raises(UserError, match=message):
        call(look("van_b0"))


def test_likeness_is_one_at_the_position_itself(look):
    values = likeness(look("pvig_tiny").maps[2], 1, 2)
    assert values[1, 2] == pytest.approx(1, abs=1e-5) and values.abs().max() <= 1 + 1e-5


def test_pictures():
    values = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    pixels = np.asarray(heat(values))
    assert pixels[0, 0].tolist() == [68, 1, 84] and pixels[1, 1].tolist() == [253, 231, 37]
    assert pixels[1, 0].tolist() == [33, 145, 140]  # the middle
    assert heat(torch.zeros(2, 2)).size == (2, 2)  # all alike
    assert heat(values, size=(8, 4)).size == (8, 4)
    assert torch.equal(strength(torch.tensor([[[3.0]], [[-3.0]]])), torch.tensor([[3.0]]))


def test_lines_go_from_the_node_to_its_neighbours():
    image = Image.new("RGB", (80, 40))
    drawn = np.asarray(lines(image, (0, 0), torch.tensor([[3.0, 7.0]]), (4, 8)))
    assert drawn[5, 5].tolist() == list(NODE) and drawn[35, 75].tolist() == list(LINE)
    assert not np.asarray(image).any()  # a copy
