"""RoIAlign by matrix products equals torchvision's loops, values and gradients, for regions of every kind."""

import itertools

import pytest
import torch
import torchvision

from ziggurat.mmcv_ops import roi, roi_products

SIZE = (2, 5, 19, 23)  # B, C, H, W
POOLED = (7, 6)


def regions(scale):
    """Regions within, across and far beyond the maps, without area, turned around, and of one line."""
    centres, sides = torch.rand(60, 2) * 26 - 2, torch.rand(60, 2) * 24
    corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    odd = [[0, 0, 0, 0], [900, 900, 990, 999], [-99, -99, -50, -60], [5, 5, 3, 2], [5, 5, 5, 9], [0, 0, 23, 19.0]]
    boxes = torch.cat([corners, torch.tensor(odd)]) / scale
    return torch.cat([torch.randint(0, 2, (len(boxes), 1)), boxes], dim=1).double()


@pytest.mark.parametrize(("ratio", "aligned", "scale"), itertools.product((0, 2, 3), (True, False), (1.0, 0.25)))
def test_values_and_gradients_are_those_of_torchvision(ratio, aligned, scale):
    rois, maps = regions(scale), torch.randn(SIZE, dtype=torch.float64)
    arguments = (scale, ratio, aligned)
    values = roi_products.averages(maps, rois, POOLED, *arguments)
    torch.testing.assert_close(values, roi.plain_averages(maps, rois, POOLED, *arguments), atol=1e-13, rtol=1e-13)
    grad = torch.randn(len(rois), SIZE[1], *POOLED, dtype=torch.float64)
    found = roi_products.gradient(grad, rois, SIZE, *arguments)
    torch.testing.assert_close(found, roi.plain_gradient(grad, rois, SIZE, *arguments), atol=1e-12, rtol=1e-12)
    assert float((found * maps).sum()) == pytest.approx(float((values * grad).sum()))  # adjoint of each other


def test_the_operator_takes_the_products_where_they_are_fast(monkeypatch):
    """Through mmcv's function, with gradient: many channels take the products, and give torchvision's results."""
    from ziggurat import mmcv_ops

    mmcv_ops.install()
    from mmcv.ops import roi_align

    called = []
    for name in ("averages", "gradient"):
        real = getattr(roi_products, name)
        monkeypatch.setattr(roi_products, name, lambda *args, n=name, real=real: (called.append(n), real(*args))[1])
    rois = regions(0.25).float()
    for channels, expected in ((128, ["averages", "gradient"]), (32, ["gradient"]), (1, [])):
        maps = torch.randn(2, channels, 19, 23, requires_grad=True)
        called.clear()
        grad, values = [], []
        for align in (
            lambda x: roi_align(x, rois, POOLED, 0.25, 0, "avg", True),
            lambda x: torchvision.ops.roi_align(x, rois, POOLED, 0.25, 0, True),
        ):
            values.append(align(maps))
            grad += torch.autograd.grad(values[-1].square().sum(), maps)
        assert called == expected
        torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(*grad, atol=1e-4, rtol=1e-5)


def test_regions_that_are_not_finite_are_left_to_torchvision():
    maps = torch.zeros(1, 32, 8, 8)
    assert roi_products.is_faster("gradient", maps, torch.tensor([[0, 1, 1, 5, 5.0]]), 1.0)
    for value in (float("nan"), float("inf"), 1e6):
        assert not roi_products.is_faster(
            "gradient", maps, torch.tensor([[0, 1, 1, 5, 5.0], [0, 1, 1, value, 5.0]]), 1.0
        )
    assert not roi_products.is_faster("gradient", maps.to("meta"), torch.zeros(1, 5), 1.0)
