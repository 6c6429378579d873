"""``init_cfg`` with a prefix chooses among the sets of weights in a file, and keeps what the file says of itself."""

import pytest
import torch
from helpers import SMALL

from backbones import UserError, create_backbone, load_weights
from backbones.weights import own_meta
from ziggurat.engine.structure import settle_structure


def renamed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def built(arch, path, prefix, **arguments):
    return create_backbone(arch, init_cfg=dict(type="Pretrained", checkpoint=str(path), prefix=prefix), **arguments)


def assert_equal(net, donor):
    x = torch.rand(1, donor.in_chans, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(net.eval()(x), donor.eval()(x), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("prefix", ["backbone.", "backbone"])
@pytest.mark.parametrize("arch", SMALL)
def test_an_own_checkpoint_of_a_detector_gives_its_structure(tiny, arch, prefix, tmp_path):
    structure = {"van_b0": {"norm_eps": 1e-4}, "hornet_tiny_gf": {"filter_sizes": (None, None, (6, 4), (3, 2))}}
    donor = tiny(arch, in_chans=4, **structure.get(arch, {}))
    state = renamed(donor.state_dict(), "backbone.") | {"neck.conv.weight": torch.ones(1)}
    torch.save({"state_dict": state, "meta": {"ziggurat": own_meta(donor, None, None)}}, tmp_path / "own.pth")
    net = built(arch, tmp_path / "own.pth", prefix)
    assert net.arguments() == donor.arguments() and net.load_report.unexpected == ["neck.conv.weight"]
    assert_equal(net, donor)


@pytest.mark.parametrize("prefix", [None, "backbone."])
def test_the_same_set_is_taken_with_and_without_a_prefix(tiny, prefix, tmp_path):
    raw, averaged = tiny("van_b0"), tiny("van_b0")
    content = {"state_dict": raw.state_dict(), "state_dict_ema": averaged.state_dict()}
    torch.save({name: renamed(state, "backbone.") for name, state in content.items()}, tmp_path / "two.pth")
    with pytest.warns(UserWarning, match="loaded state_dict_ema; which='state_dict' loads the other"):
        net = built("van_b0", tmp_path / "two.pth", prefix)
    assert_equal(net, averaged)
    load_weights(net, tmp_path / "two.pth", which="raw", prefix=prefix)
    assert_equal(net, raw)


def test_a_prefix_is_found_in_any_entry_and_behind_ddp(tiny, tmp_path):
    donor = tiny("van_b0")
    torch.save({"epoch": 3, "model_ema": renamed(donor.state_dict(), "module.backbone.")}, tmp_path / "ema.pth")
    assert_equal(built("van_b0", tmp_path / "ema.pth", "backbone."), donor)


def test_structure_is_settled_from_the_tensors_behind_the_prefix(tiny, tmp_path):
    """Before DDP and the optimiser are built, as at the start of a run."""
    student, teacher = tiny("hornet_tiny_gf", out_norm=True), tiny("hornet_tiny_gf", out_norm=False)
    state = renamed(student.state_dict(), "student.") | renamed(teacher.state_dict(), "teacher.")
    torch.save({"state_dict": state}, tmp_path / "two.pth")
    for prefix, donor in (("student.", student), ("teacher.", teacher)):
        init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "two.pth"), prefix=prefix)
        model = torch.nn.Module()
        model.backbone = type(donor)("hornet_tiny_gf", init_cfg=init_cfg)
        settle_structure(model, None, exact=False)
        assert model.backbone.arguments() == donor.arguments()
        known = dict(model.backbone.named_parameters())
        model.backbone.init_weights()
        assert all(known[name] is value for name, value in model.backbone.named_parameters())
        assert_equal(model.backbone, donor)


def test_a_wrong_prefix_is_named_with_the_prefixes_that_exist(tiny, tmp_path):
    state = tiny("van_b0").state_dict()
    torch.save({"state_dict": renamed(state, "student.")}, tmp_path / "a.pth")
    torch.save({"model_ema": state}, tmp_path / "bare.pth")
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "other.pth")
    for name, allowed in (("a.pth", "'student.'"), ("bare.pth", "none"), ("other.pth", "none, the network's names")):
        with pytest.raises(UserError) as caught:
            built("van_b0", tmp_path / name, "backbone.")
        message = str(caught.value)
        assert f"{name}: prefix is 'backbone.'; allowed here: {allowed}" in message and "\n" not in message


@pytest.mark.parametrize("prefix", [3, True, ["backbone."]])
def test_a_prefix_that_is_no_text_is_named(prefix):
    with pytest.raises(UserError, match=r"prefix is .*; allowed: None, the beginning of"):
        built("van_b0", "a.pth", prefix)
    with pytest.raises(UserError, match=r"prefix is .*; allowed: None, the beginning of"):
        load_weights(create_backbone("van_b0"), {}, prefix=prefix)
