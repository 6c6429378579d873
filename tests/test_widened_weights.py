"""Weights of RGB in networks of other channels: one rule, said in the report, and the statistics that go with it."""

import numpy as np
import pytest
import torch
from timm.models import adapt_input_conv

from backbones import FeatureExtractor, UserError, load_weights
from classification import create_classifier
from ziggurat.engine.checkpoints import load_state

RNG = np.random.default_rng(0)
FIVE = RNG.integers(0, 65536, (40, 52, 5), dtype=np.uint16)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_weights_of_rgb_are_widened_by_one_rule(channels, tiny):
    """timm's adapt_input_conv agrees where both rules speak of the same: one channel, the first three, and the sum."""
    rgb = tiny("van_b0")
    weight = rgb.stem.conv.weight.detach()
    with pytest.warns(match=rf"stem\.conv\.weight, 3 channels to {channels}: .*times 3/{channels}"):
        wide = tiny("van_b0", in_chans=channels)
        report = load_weights(wide, rgb.state_dict())
    assert report.widened.startswith("stem.conv.weight") and not report.missing and not report.unexpected
    ours, timms = wide.stem.conv.weight.detach(), adapt_input_conv(channels, weight)
    mean = weight.mean(1, keepdim=True) * 3 / channels
    assert ours.shape[1] == channels
    if channels == 1:
        torch.testing.assert_close(ours, timms)
    if channels > 3:
        torch.testing.assert_close(ours[:, :3], timms[:, :3])
    beyond = ours[:, 3:] if channels > 3 else ours
    torch.testing.assert_close(beyond, mean.expand_as(beyond))
    torch.testing.assert_close(ours.sum(1), weight.sum(1))


@pytest.mark.filterwarnings("ignore::backbones.errors.Notice")
def test_an_image_of_equal_channels_gives_the_maps_of_its_grey(tiny):
    donor = tiny("vig_tiny", out_blocks=(1,)).eval()
    wide = tiny("vig_tiny", out_blocks=(1,), in_chans=6).eval()
    load_weights(wide, donor.state_dict())
    grey = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(
        wide(grey.expand(1, 6, 64, 64))[0], donor(grey.expand(1, 3, 64, 64))[0], atol=1e-4, rtol=1e-4
    )


def test_only_weights_of_three_channels_are_widened(tiny):
    four = tiny("van_b0", in_chans=4)
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        load_weights(tiny("van_b0", in_chans=5), four.state_dict())
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        load_weights(tiny("van_b0"), four.state_dict())
    assert load_weights(tiny("van_b0", in_chans=4), four.state_dict()).widened == ""


def test_a_run_starts_from_a_whole_model_of_rgb(capsys):
    rgb, wide = create_classifier("van_b0", num_classes=2), create_classifier("van_b0", num_classes=2, in_chans=4)
    state = rgb.state_dict()
    with pytest.raises(UserError, match=r"backbone\.stem\.conv\.weight"):
        load_state(wide, state, "rgb.pth", exact=True)
    assert load_state(wide, state, "rgb.pth", exact=False) == ""
    assert "rgb.pth: backbone.stem.conv.weight, 3 channels to 4: the first three" in capsys.readouterr().err
    weight = rgb.backbone.stem.conv.weight
    torch.testing.assert_close(wide.backbone.stem.conv.weight[:, :3], weight * 0.75)


def test_features_of_bands_keep_the_statistics_of_rgb_in_the_first_three(tmp_path):
    extractor = FeatureExtractor("van_b0", (0,), in_chans=5, mean=None)
    three = FeatureExtractor("van_b0", (0,)).statistics
    assert extractor.statistics.mean[:3] == three.mean
    assert extractor.statistics.mean[3:] == pytest.approx([sum(three.mean) / 3] * 2)
    np.save(tmp_path / "a.npy", FIVE)
    assert torch.equal(extractor(tmp_path / "a.npy")[0], extractor((FIVE >> 8).astype(np.uint8))[0])
