"""The global filter is the convolution of its spectrum, by FFT and by products, at any size and precision."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backbones.ops import GlobalFilter, global_filter

pytestmark = pytest.mark.numeric

SIZES = [(1, 1), (2, 3), (7, 7), (8, 16), (14, 14), (13, 24), (50, 84), (33, 31)]


def literal(x, weight):
    """The definition, by numpy's FFT, in float64."""
    height, width = x.shape[2:]
    weight = weight.detach().double().permute(3, 0, 1, 2)
    weight = F.interpolate(weight, size=(height, width // 2 + 1), mode="bilinear", align_corners=True).numpy()
    spectrum = np.fft.rfft2(x.detach().double().numpy(), norm="ortho") * (weight[0] + 1j * weight[1])
    return torch.from_numpy(np.fft.irfft2(spectrum, s=(height, width), norm="ortho"))


@pytest.mark.parametrize("by_fft", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_definition(size, by_fft):
    layer = GlobalFilter(6, (14, 8))
    layer.fft = by_fft
    x = torch.randn(2, 6, *size)
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        y = layer.to(dtype)(x.to(dtype))
        expected = literal(x, layer.complex_weight)
        assert y.dtype == dtype and (y - expected).norm() <= limit * expected.norm() + 1e-12


def test_the_default_chooses_by_size():
    """Both forms agree to 1e-4, so the choice shows in speed alone."""
    layer = GlobalFilter(4, (14, 8))
    for size in ((14, 14), (40, 40)):
        x = torch.randn(1, 4, *size)
        torch.testing.assert_close(layer(x).double(), literal(x, layer.complex_weight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("by_fft", [True, False])
@pytest.mark.parametrize("size", [(4, 5), (6, 8)])
def test_gradients(size, by_fft):
    layer = GlobalFilter(2, (5, 3)).double()
    layer.fft = by_fft
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(layer, {"complex_weight": w}, (x,)), (x, layer.complex_weight)
    )


@pytest.fixture
def made(monkeypatch):
    """The sizes for which a spectrum was made."""
    sizes, make = [], global_filter.make_spectrum

    def counting(weight, height, width, dtype, by_fft):
        sizes.append((height, width))
        return make(weight, height, width, dtype, by_fft)

    monkeypatch.setattr(global_filter, "make_spectrum", counting)
    return sizes


def test_a_spectrum_is_made_once_per_size(made):
    layer = GlobalFilter(3, (14, 8)).eval()
    with torch.no_grad():
        for size in ((14, 14), (10, 12), (14, 14), (10, 12)):
            layer(torch.randn(1, 3, *size))
    assert made == [(14, 14), (10, 12)]


@pytest.mark.parametrize("change", ["in place", "load", "double", "train and back", "inference mode"])
def test_a_kept_spectrum_does_not_outlive_its_weights(change):
    layer, x = GlobalFilter(3, (14, 8)).eval(), torch.randn(1, 3, 9, 11)
    with torch.no_grad() if change != "inference mode" else torch.inference_mode():
        layer(x)
    with torch.no_grad():
        if change == "in place":
            layer.complex_weight.mul_(2)
        elif change == "load":
            layer.load_state_dict({"complex_weight": torch.randn(3, 14, 8, 2)})
        elif change == "double":
            layer.double()
        elif change == "train and back":
            layer.train()
            layer.complex_weight.data = layer.complex_weight.data * 3
            layer.eval()
        y = layer(x.to(layer.complex_weight.dtype))
    torch.testing.assert_close(y.double(), literal(x, layer.complex_weight), rtol=1e-4, atol=1e-5)
    x.requires_grad_()
    layer(x.to(layer.complex_weight.dtype)).sum().backward()  # also after inference mode
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(14, 14), (7, 7), (37, 50)])
def test_half_types_are_computed_in_float32(size, dtype):
    layer, x = GlobalFilter(4, (14, 8)), torch.randn(2, 4, *size).to(dtype)
    with warnings.catch_warnings(), torch.autocast("cpu", dtype):
        warnings.simplefilter("error")
        y = layer(x)
        y.float().sum().backward()
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), literal(x, layer.complex_weight), rtol=1e-2, atol=1e-2)
    assert layer.complex_weight.grad.isfinite().all()


def test_takes_stored_sizes_of_the_same_channels_alone():
    layer = GlobalFilter(4, (14, 8))
    old = layer.complex_weight
    for shape in ((4, 14, 8, 2), (5, 24, 13, 2), (4, 24, 13), (4, 24, 13, 1)):
        layer._load_from_state_dict({"complex_weight": torch.zeros(shape)}, "", {}, True, [], [], [])
        assert layer.complex_weight is old and old.shape == (4, 14, 8, 2)
    before = global_filter.make_spectrum(old.data, 24, 24, torch.float32, by_fft=False)
    layer.resize((24, 13))
    assert torch.equal(global_filter.make_spectrum(old.data, 24, 24, torch.float32, by_fft=False), before)
    assert layer.complex_weight is old  # which an optimiser may know
    assert old.shape == (4, 24, 13, 2) and old.requires_grad
