"""VVT's attention and network against a literal reading: values, gradients, clamps, cost, precision."""

import pytest
import torch
import vvt_reference
from torch.utils.flop_counter import FlopCounterMode
from vvt_reference import rounding_decides, vicinity, vvt_maps

from backbones import convert, create_backbone
from backbones.ops import vicinity as ops
from backbones.ops import vicinity_attention
from backbones.ops.cache import TensorCache
from backbones.vvt import VVT

SIZES = [(1, 1), (3, 5), (7, 7), (12, 5), (20, 31)]
SCALES = [1e-4, 1e-2, 1.0, 100.0]  # from all clamped below to some above


def on_tokens(function, q, k, v):
    """A function of the literal code, which takes (B, N, h, d), on (B, h, H, W, d)."""
    height, width = q.shape[2:4]
    tokens = [t.flatten(2, 3).transpose(1, 2) for t in (q.relu(), k.relu(), v)]
    return function(*tokens, height, width).transpose(1, 2).unflatten(2, (height, width))


def operands(size, scale):
    return [(scale * torch.randn(2, 3, *size, 4, dtype=torch.float64)).requires_grad_() for _ in range(3)]


@pytest.mark.numeric
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_attention_equals_the_literal_one(size, scale):
    """Values and gradients, but for the few values whose sign rounding decides: these keep the smallest magnitude."""
    leaves = operands(size, scale)
    ours = vicinity_attention(*leaves)
    decided = ~on_tokens(rounding_decides, *leaves)
    height, width = size
    equal_angles = torch.arange(height)[:, None] * width == torch.arange(width) * height
    assert decided[:, :, ~equal_angles].all()
    assert ours[~decided].abs().le(ops.LOW * ops.HIGH).all()  # LOW times a normaliser of at most HIGH
    weights = torch.randn_like(ours) * decided
    gradients = torch.autograd.grad(ours, leaves, weights)
    for theirs in (on_tokens(vicinity, *leaves), ops.vicinity_attention_reference(*leaves)):
        assert (ours - theirs)[decided].norm() <= 1e-9 * theirs.norm()
        for a, b in zip(gradients, torch.autograd.grad(theirs, leaves, weights), strict=True):
            assert (a - b).norm() <= 1e-8 * b.norm() + 1e-12


@pytest.mark.numeric
@pytest.mark.parametrize("scale", SCALES)
def test_rounding_decides_where_the_literal_form_may_differ_from_itself(scale):
    """The same sums in another order of the channels, at a size that has such sums."""
    q, k, v = operands((7, 7), scale)
    decided = ~on_tokens(rounding_decides, q, k, v)
    first, second = on_tokens(vicinity, q, k, v), on_tokens(vicinity, q.flip(4), k.flip(4), v)
    assert (first - second)[decided].norm() <= 1e-9 * first.norm()
    assert decided.all() == (scale == 1.0)  # only there is nothing clamped, and no sum is 0


def test_the_clamps_are_there():
    """Results keep their sign, and lie between 1e-4 and 1e4 in magnitude; zero stays zero."""
    t = torch.tensor([0.0, 1e-9, -1e-9, 0.5, -0.5, 1e9, -1e9])
    expected = torch.tensor([0.0, 1e-4, -1e-4, 0.5, -0.5, 1e4, -1e4])
    torch.testing.assert_close(ops.clamp_magnitude(t), expected)
    torch.testing.assert_close(ops.clamped_product(t, torch.tensor(1.0)), expected)
    q, k, v = (1e-3 * torch.rand(1, 1, 6, 6, 4) for _ in range(3))
    assert vicinity_attention(q, k, v).abs().min() >= 1e-4


@pytest.mark.numeric
def test_network_equals_the_literal_one(monkeypatch):
    """Maps and the gradients of all weights, in float64, on an image that is not square."""
    row = VVT.ARCHS["vvt_tiny"]._replace(depths=(1, 2, 1, 1), embed_dims=(16, 32, 40, 64), mlp_ratios=(2, 2, 2, 2))
    monkeypatch.setattr(VVT, "ARCHS", VVT.ARCHS | {"vvt_tiny": row})
    net = create_backbone("vvt_tiny").double()
    for param in net.parameters():
        param.data += 0.1 * torch.randn_like(param)
    image = torch.randn(2, 3, 64, 96).double()
    ours = net(image)
    sum(m.sin().sum() for m in ours).backward()
    state = convert.write_state("vvt_tiny", row, net.state_dict(), "official")[0]
    state = {name: value.clone().requires_grad_() for name, value in state.items()}
    attentions = []
    monkeypatch.setattr(vvt_reference, "vicinity", lambda *args: attentions.append(args) or vicinity(*args))
    theirs = vvt_maps(state, row.depths, row.num_heads, image)
    assert len(attentions) == 5 and not any(rounding_decides(*args).any() for args in attentions)
    sum(m.sin().sum() for m in theirs).backward()
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()
    gradients = {name: param.grad for name, param in net.named_parameters()}
    gradients = convert.write_state("vvt_tiny", row, gradients, "official")[0]
    for name, value in state.items():
        assert (gradients[name] - value.grad).norm() <= 1e-5 * value.grad.norm() + 1e-9, name


@pytest.mark.parametrize("arch", VVT.ARCHS)
def test_cost_is_linear_in_pixels(arch):
    with torch.device("meta"):
        net = create_backbone(arch).eval()
    flops = []
    for side in (224, 448, 896):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, side, side, device="meta"))
        flops.append(counter.get_total_flops())
    assert flops[1] / flops[0] == pytest.approx(4, rel=0.02) and flops[2] / flops[1] == pytest.approx(4, rel=0.02)


def test_position_terms_are_made_once_per_size(monkeypatch):
    lengths, make = [], ops.make_angle_cos_sin
    monkeypatch.setattr(ops, "make_angle_cos_sin", lambda length, *of: lengths.append(length) or make(length, *of))
    monkeypatch.setattr(ops, "CACHE", TensorCache(1 << 20))
    for height, width in ((6, 9), (6, 9), (9, 6)):
        vicinity_attention(*torch.randn(3, 1, 1, height, width, 4))
    assert sorted(lengths) == [6, 9]


@pytest.mark.numeric
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_summed_in_float32(dtype):
    """Many tokens of one sign: sums that a half type would lose or overflow."""
    q, k, v = (torch.rand(1, 2, 80, 80, 8) * 8 for _ in range(3))
    q, k, v = (t.to(dtype).requires_grad_() for t in (q, k, v))
    out = vicinity_attention(q, k, v)
    assert out.dtype == dtype
    expected = on_tokens(vicinity, *(t.detach().double() for t in (q, k, v)))
    assert (out.double() - expected).norm() < 1e-2 * expected.norm()
    out.float().sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))
