"""Mean and std that cannot be right are one line of error, from arguments and from a checkpoint."""

import math

import numpy as np
import pytest
import torch

from backbones import FeatureExtractor, UserError, create_backbone
from backbones.weights import own_meta, statistics
from backbones.weights.normalisation import Statistics, check_numbers

WRONG = [
    ("mean", (123.675, 116.28, 103.53)),
    ("mean", (0.5, -0.1, 0.5)),
    ("mean", (0.5, math.nan, 0.5)),
    ("mean", (0.5, math.inf, 0.5)),
    ("mean", (True, False, True)),
    ("mean", (0.5, 0.5)),
    ("mean", ()),
    ("mean", "0.5"),
    ("mean", ("a", "b", "c")),
    ("mean", torch.zeros(3, 1)),
    ("std", (58.395, 57.12, 57.375)),
    ("std", (0.5, 0.0, 0.5)),
    ("std", (0.5, -0.5, 0.5)),
    ("std", np.array([0.5, np.nan, 0.5])),
]


@pytest.mark.parametrize(("word", "values"), WRONG)
def test_arguments_that_cannot_be_right_are_named(word, values):
    with pytest.raises(UserError) as caught:
        FeatureExtractor("van_b0", out_indices=(0,), **{word: values})
    message = str(caught.value)
    assert message.startswith(f"{word} is ") and "3 numbers or one for all channels" in message
    assert "\n" not in message and ("from 0 to 1" if word == "mean" else "above 0 and up to 1") in message


@pytest.mark.parametrize(("word", "values"), [(word, v) for word, v in WRONG if isinstance(v, tuple)])
def test_a_checkpoints_own_that_cannot_be_right_are_named(word, values, tmp_path):
    net = create_backbone("van_b0", out_indices=(0,))
    own = own_meta(net, (0.5,) * 3, (0.5,) * 3) | {word: list(values)}
    torch.save({"state_dict": net.state_dict(), "meta": {"ziggurat": own}}, tmp_path / "own.pth")
    with pytest.raises(UserError, match=rf"{word} .*allowed: ") as caught:
        FeatureExtractor("van_b0", (0,), tmp_path / "own.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_lists_arrays_and_tensors_are_taken_one_for_each_channel_or_one_for_all(form):
    assert check_numbers("std", form([0.25, 0.5, 1.0]), 3) == (0.25, 0.5, 1.0)
    assert check_numbers("mean", form([0.25]), 3) == (0.25,) * 3
    extractor = FeatureExtractor("van_b0", (0,), mean=form([0.25]), std=form([0.25, 0.5, 1.0]))
    assert extractor.statistics == ((0.25,) * 3, (0.25, 0.5, 1.0), "given")


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"mean": (1, 1, 1)}, "mean given, std published for the family of van_b0"),
        ({"std": (1, 1, 1)}, "mean published for the family of van_b0, std given"),
        ({"mean": (1, 1, 1), "std": (1, 1, 1)}, "given"),
    ],
)
def test_the_source_says_which_of_the_two_was_given(given, source):
    extractor = FeatureExtractor("van_b0", (0,), **given)
    assert extractor.statistics.source == source
    assert all(getattr(extractor.statistics, word) == values for word, values in given.items())


def test_only_the_statistics_of_rgb_are_averaged():
    assert Statistics((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "s").for_channels(2).mean == pytest.approx((0.2, 0.2))
    with pytest.raises(UserError, match=r"mean s is \(0\.1, 0\.2\); allowed: 3 numbers or one for all"):
        Statistics((0.1, 0.2), (0.5, 0.5), "s").for_channels(3)


@pytest.mark.parametrize("arch", [3, None, "vn_b0", ["van_b0"]])
def test_an_unknown_arch_has_no_statistics(arch):
    with pytest.raises(UserError, match=r"unknown arch .*; (nearest|allowed)"):
        statistics(arch, None)


def test_the_checkpoint_of_init_cfg_gives_its_statistics(tmp_path):
    net = create_backbone("van_b0", out_indices=(0,))
    own = own_meta(net, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    torch.save({"state_dict": net.state_dict(), "meta": {"ziggurat": own}}, tmp_path / "own.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "own.pth"))
    assert FeatureExtractor("van_b0", (0,), init_cfg=init_cfg).statistics[:2] == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
