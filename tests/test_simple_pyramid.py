"""The simple feature pyramid: four strides from one map, also for odd sides, and a gradient for every weight."""

import pytest
import torch

from backbones import SimpleFeaturePyramid, UserError, create_backbone


@pytest.mark.parametrize("size", [(2, 2), (5, 7), (8, 3)])
@pytest.mark.parametrize("num_outs", [4, 5, 6])
def test_scales(size, num_outs):
    neck = SimpleFeaturePyramid(16, 8, num_outs)
    maps = neck([torch.randn(2, 16, 9, 9), torch.randn(2, 16, *size)])
    height, width = size
    expected = [(4 * height, 4 * width), (2 * height, 2 * width), size, (-(-height // 2), -(-width // 2))]
    while len(expected) < num_outs:
        expected.append(tuple(-(-side // 2) for side in expected[-1]))
    assert [tuple(m.shape) for m in maps] == [(2, 8, *side) for side in expected]
    sum(m.square().mean() for m in maps[:4]).backward()
    assert all(p.grad is not None for p in neck.parameters())


@pytest.mark.parametrize("start_level", [1, 2, 3])
def test_finer_maps_can_be_left_out(start_level):
    neck = SimpleFeaturePyramid(16, 8, num_outs=5, start_level=start_level)
    whole = [(28, 20), (14, 10), (7, 5), (4, 3), (2, 2), (1, 1), (1, 1), (1, 1)]
    maps = neck(torch.randn(2, 16, 7, 5))
    assert [tuple(m.shape[2:]) for m in maps] == whole[start_level : start_level + 5]
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None for p in neck.parameters())  # nothing is built in vain, which DDP would mind


def test_takes_the_last_map_alone_or_of_several():
    neck = SimpleFeaturePyramid(192, 8)
    maps = create_backbone("vig_tiny", out_indices=(3,))(torch.randn(1, 3, 64, 96))
    for ours, theirs in zip(neck(maps), neck(maps[-1]), strict=True):
        assert torch.equal(ours, theirs)


def test_too_few_outputs_are_named():
    with pytest.raises(UserError, match="num_outs is 3; allowed: integers from 4 to 16"):
        SimpleFeaturePyramid(16, num_outs=3)
