"""Maps have the memory format of the input, so ``.view`` works in heads and in users' code."""

import pytest
import torch
from helpers import SMALL

from backbones import SimpleFeaturePyramid, create_backbone, list_archs
from backbones.gated_conv import GatedConv

FORMATS = [torch.contiguous_format, torch.channels_last]


def formats(maps):
    return [[memory_format for memory_format in FORMATS if m.is_contiguous(memory_format=memory_format)] for m in maps]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("arch", list_archs())
def test_maps_have_the_memory_format_of_the_input(cut_depths, arch, training, memory_format):
    cut_depths(arch, (1, 1, 1, 1))
    net = create_backbone(arch, out_indices=(0, 2)).train(training)
    image = torch.randn(2, 3, 64, 96).contiguous(memory_format=memory_format)
    assert formats(net(image)) == [[memory_format]] * 2


@pytest.mark.parametrize("arch", SMALL)
def test_maps_of_inputs_without_either_format(tiny, arch):
    """Pictures as NumPy has them count as channels last, a grey picture repeated as contiguous."""
    net = tiny(arch).eval()
    with torch.no_grad():
        picture = torch.randn(64, 96, 3).permute(2, 0, 1)[None]
        assert formats(net(picture)) == [[torch.channels_last]] * 4
        grey = torch.randn(1, 1, 64, 96).expand(1, 3, 64, 96)
        for m in net(grey):
            m.view(m.shape[0], -1)
        assert formats(net(torch.randn(2, 3, 130, 200)[:, :, ::2, ::2].flip(3))) == [[torch.contiguous_format]] * 4


@pytest.mark.parametrize("arch", SMALL)
def test_maps_of_one_channel_inputs_can_be_viewed(tiny, arch):
    with torch.no_grad():
        for m in tiny(arch, in_chans=1).eval()(torch.randn(2, 1, 64, 64)):
            m.view(2, -1)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("filter_size", [None, (8, 5)])
def test_the_layers_that_necks_and_heads_take_from_us(filter_size, memory_format):
    x = torch.randn(2, 16, 12, 10).contiguous(memory_format=memory_format)
    assert formats([GatedConv(16, 16, 2, filter_size)(x)]) == [[memory_format]]
    assert formats(SimpleFeaturePyramid(16, 8)(x)) == [[memory_format]] * 4
