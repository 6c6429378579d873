"""timm's protocol: what timm's own tests ask of its models, restated for every arch.

Source of the properties: huggingface/pytorch-image-models, tests/test_models.py. The last blocks of each stage are left
out, since the protocol does not depend on them.
"""

import subprocess
import sys

import pytest
import timm
import torch
from helpers import SMALL
from timm.data import resolve_model_data_config
from timm.optim import create_optimizer_v2
from timm.optim._param_groups import param_groups_layer_decay

import backbones.timm  # noqa: F401  registers the models
from backbones import WEIGHTS, UserError, create_backbone, list_archs, load_weights
from classification import create_classifier

ARCHS = list_archs()


@pytest.fixture
def small(cut_depths):
    """Makes a model with one block in each stage, in eval mode."""

    def make(arch, **options):
        cut_depths(arch.split(".")[0], (1, 1, 1, 1))
        return timm.create_model(arch, **options).eval()

    return make


def test_importing_backbones_needs_no_timm():
    code = "import sys, backbones; assert 'timm' not in sys.modules and 'backbones.timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_timm_lists_every_arch_and_every_set_of_weights():
    assert sorted(timm.list_models(module="timm")) == sorted(ARCHS)
    assert set(timm.list_models(pretrained=True)) >= set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_described_as_the_authors_use_them(name):
    cfg, weights = timm.get_pretrained_cfg(name), WEIGHTS[name]
    assert (cfg.mean, cfg.std) == weights.input and cfg.tag == name.split(".")[1]
    if weights.evaluation:
        assert (cfg.input_size[1], cfg.crop_pct) == weights.evaluation[:2]


@pytest.mark.parametrize("arch", ARCHS)
def test_forward_without_classes_and_without_pooling(small, arch):
    model = small(arch)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits, last = model(x), model.forward_features(x)
        assert logits.shape == (1, model.num_classes) == (1, model.pretrained_cfg["num_classes"])
        assert last.shape[1] == model.num_features and last.ndim == 4
        hidden = model.forward_head(last, pre_logits=True)
        assert hidden.shape == (1, model.head_hidden_size)
        torch.testing.assert_close(model.get_classifier()(hidden), logits)
        model.reset_classifier(0)
        assert torch.equal(model(x), hidden)
        model.reset_classifier(0, "")
        assert torch.equal(model(x), last)
        model.reset_classifier(7, "avg")
        assert model(x).shape == (1, 7) and model.num_classes == 7
    bare = small(arch, num_classes=0, global_pool="")
    assert bare(x).shape == last.shape


@pytest.mark.parametrize("arch", ARCHS)
def test_names_in_the_description_are_names_of_the_model(small, arch):
    model = small(arch)
    names, cfg = model.state_dict().keys(), model.pretrained_cfg
    assert {f"{cfg['first_conv']}.weight", f"{cfg['classifier']}.weight"} <= set(names)
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()
    assert model.get_submodule(cfg["first_conv"]).in_channels == 3 and model.default_cfg == cfg
    assert resolve_model_data_config(model)["mean"] == cfg["mean"]


@pytest.mark.parametrize("arch", SMALL)
def test_logits_are_those_of_the_projects_classifier(small, arch, tmp_path):
    model = small(arch, num_classes=5)
    clf = create_classifier(arch, num_classes=5).eval()
    load_weights(clf, model.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), clf(x))
    torch.save({"state_dict": clf.state_dict()}, tmp_path / "clf.pth")
    again = small(arch, num_classes=5, checkpoint_path=str(tmp_path / "clf.pth"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in clf.state_dict().items())


@pytest.mark.parametrize("arch", ARCHS)
def test_features_are_the_backbones_maps(small, arch):
    model = small(arch, features_only=True, out_indices=(1, 2))
    net = create_backbone(arch, out_indices=(1, 2)).eval()
    net.load_state_dict({name.removeprefix("model.backbone."): value for name, value in model.state_dict().items()})
    x = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        ours, theirs = net(x), model(x)
    assert len(theirs) == 2 and all(map(torch.equal, ours, theirs))
    assert model.feature_info.channels() == [info.channels for info in net.feature_info]
    assert model.feature_info.reduction() == [info.stride for info in net.feature_info]
    assert not any(name.startswith(("model.head", "model.backbone.stages.3")) for name in model.state_dict())


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize(("indices", "wanted"), [(None, [0, 1, 2, 3]), (2, [2, 3]), ([0, -1], [0, 3]), ([1], [1])])
def test_intermediates(small, arch, indices, wanted):
    model, x = small(arch), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        everything = model.backbone(x)
        last, maps = model.forward_intermediates(x, indices)
        alone = model.forward_intermediates(x, indices, intermediates_only=True, stop_early=True)
    assert torch.equal(last, everything[-1]) and len(maps) == len(alone) == len(wanted)
    assert all(torch.equal(maps[k], everything[i]) and torch.equal(alone[k], maps[k]) for k, i in enumerate(wanted))


@pytest.mark.parametrize("arch", SMALL)
def test_stages_that_are_pruned_are_gone(small, arch):
    model, x = small(arch), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model.forward_intermediates(x, [0, 1], intermediates_only=True)
        assert model.prune_intermediate_layers([0, 1]) == [0, 1] and len(model.backbone.stages) == 2
        after = model.forward_intermediates(x, [0, 1], intermediates_only=True)
    assert all(map(torch.equal, before, after)) and len(before) == len(after) == 2


@pytest.mark.parametrize("arch", SMALL)
def test_every_parameter_gets_a_gradient_with_and_without_checkpointing(small, arch):
    model, x = small(arch).train(), torch.randn(2, 3, 64, 64)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = []
    for enable in (False, True):
        model.load_state_dict(state)  # with the statistics of norms as before
        model.set_grad_checkpointing(enable)
        assert model.backbone.grad_checkpointing == enable
        model.zero_grad()
        model(x).square().mean().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("coarse", [False, True])
def test_parameters_are_grouped_by_depth(small, arch, coarse):
    model = small(arch)
    layers = timm.models.group_parameters(model, model.group_matcher(coarse), reverse=True)
    names = dict(model.named_parameters())
    assert set(layers) == set(names)
    stages = [layers[name] for name in names if ".stages." in name]
    assert stages == sorted(stages) and min(stages) > layers[next(name for name in names if ".stem." in name)]
    assert all(layers[name] >= max(stages) for name in names if name.startswith("head."))


@pytest.mark.parametrize("arch", SMALL)
def test_timms_optimisers_take_the_models(small, arch):
    model = small(arch)
    groups = param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.5)
    assert len({group["lr_scale"] for group in groups}) > 4
    create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.8)


@pytest.mark.parametrize("arch", SMALL)
@pytest.mark.parametrize("channels", [1, 5])
def test_inputs_of_other_channels(small, arch, channels):
    assert small(arch, in_chans=channels, num_classes=2)(torch.randn(1, channels, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize("arch", SMALL)
def test_pretrained_reads_the_file_of_the_weights(small, arch, tmp_path, monkeypatch):
    """By the project's own way: other channels and classes are adapted, and the rest loads completely."""
    source = small(arch)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    name = next(name for name in WEIGHTS if name.startswith(f"{arch}."))
    address = WEIGHTS[name]._replace(urls=((tmp_path / "weights.pth").as_uri(),))
    monkeypatch.setitem(WEIGHTS, name, address)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert_same(small(name, pretrained=True), source)
    by_file = dict(file=str(tmp_path / "weights.pth"))
    assert_same(small(arch, pretrained=True, pretrained_cfg_overlay=by_file), source)
    by_address = dict(url=(tmp_path / "weights.pth").as_uri())
    assert_same(small(arch, pretrained=True, pretrained_cfg_overlay=by_address), source)
    features = small(arch, pretrained=True, features_only=True, out_indices=(0,), pretrained_cfg_overlay=by_file)
    assert torch.equal(next(features.parameters()), next(source.parameters()))
    with pytest.warns(match="does not fit the classifier's head"):
        other = small(arch, pretrained=True, num_classes=3, pretrained_cfg_overlay=by_file)
    assert other.num_classes == 3 and torch.equal(next(other.parameters()), next(source.parameters()))


def assert_same(model, source):
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "max"}, r"global_pool is 'max'; allowed: 'avg', or '' for maps"),
        ({"in_chans": 0}, "in_chans is 0"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"num_classes": "5"}, "num_classes is '5'"),
        (
            {"img_size": 64},
            "unknown argument of van_b0: 'img_size'; allowed: num_classes, in_chans, .* images have any size",
        ),
        (
            {"bn_eps": 1e-3, "drop_path_rate": 0.1},
            "^unknown argument of van_b0: 'bn_eps'; allowed: num_classes, in_chans, global_pool, drop_rate, norm_eps, "
            "output_stride, out_indices, drop_path_rate, frozen_stages, norm_eval, grad_checkpointing$",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UserError, match=message):
        timm.create_model("van_b0", **options)


def test_maps_have_one_format():
    model = timm.create_model("van_b0").eval()
    with pytest.raises(UserError, match="output_fmt is 'NLC'; allowed: 'NCHW'"):
        model.forward_intermediates(torch.randn(1, 3, 64, 64), output_fmt="NLC")
