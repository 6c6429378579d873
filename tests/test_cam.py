"""Class activation maps add up to what the classifier says, where its head allows it."""

import pytest
import torch
from helpers import SMALL

from backbones import UserError, create_backbone
from backbones.cam import EXACT, class_map
from backbones.heads import build_head


@pytest.fixture
def made(cut_depths):
    def make(arch):
        cut_depths(arch, (1, 1, 1, 1))
        net = create_backbone(arch)
        head = build_head(net, 5).eval()
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
        return head, torch.randn(net.feature_info[-1].channels, 3, 4)

    return make


@pytest.mark.parametrize("arch", SMALL)
def test_positions_add_up_to_the_logit(made, arch):
    head, features = made(arch)
    if isinstance(head, EXACT):
        last, nothing = head.fc, head.features(torch.zeros(1, len(features), 1, 1))
        constant = (last.weight @ nothing[0] + last.bias).detach()  # of a LayerNorm its bias
        for label in range(5):
            total = class_map(head, features, label).mean() + constant[label]
            torch.testing.assert_close(total, head(features[None])[0, label].detach(), rtol=1e-4, atol=1e-4)
        return
    found = class_map(head, features, 2)
    # A small change of a whole channel changes the logit by that channel's weight in the map.
    step, weights = 1e-3, []
    head, features = head.double(), features.double()
    for channel in range(len(features)):
        changed = features.clone()
        changed[channel] += step
        weights.append(((head(changed[None]) - head(features[None]))[0, 2] / step).detach())
    expected = torch.einsum("c,chw->hw", torch.stack(weights), features).relu()
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2 * expected.max().item())


def test_a_class_that_is_not_there_is_named(made):
    head, features = made("van_b0")
    for label in (5, -1, True, None):
        with pytest.raises(UserError, match=r"class is .*; allowed: 0 to 4"):
            class_map(head, features, label)
