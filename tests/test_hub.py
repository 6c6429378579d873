"""Clients of other frameworks: Hugging Face's Hub and transformers, segmentation_models_pytorch, torchvision.

transformers and segmentation_models_pytorch are not in the locked environment; their tests run where they are
installed.
"""

import json

import pytest
import torch
from helpers import SMALL
from safetensors.torch import load_file
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FeaturePyramidNetwork

from backbones import UserError, ViG, create_backbone
from backbones.hub import HubBackbone
from classification import create_classifier

PYRAMIDS = [arch for arch in SMALL if arch not in ViG.ARCHS]


def shortened(arch, cut_depths):
    cut_depths(arch, (1, 1, 1, 1))
    return arch


# --- Hugging Face's Hub


@pytest.mark.parametrize("arch", SMALL)
def test_a_saved_backbone_comes_back_from_its_folder_alone(arch, cut_depths, tmp_path):
    net = HubBackbone(shortened(arch, cut_depths), out_indices=(1, 3), in_chans=4).eval()
    net.save_pretrained(tmp_path / "net")
    again = HubBackbone.from_pretrained(tmp_path / "net").eval()
    x = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        assert all(map(torch.equal, net(x), again(x)))
    assert again.channels == [info.channels for info in net.feature_info] and len(again.channels) == 2
    assert load_file(tmp_path / "net/model.safetensors").keys() == net.state_dict().keys()
    assert json.loads((tmp_path / "net/config.json").read_text())["arch"] == arch
    card = (tmp_path / "net/README.md").read_text()
    assert f"# {arch}" in card and "library_name: ziggurat" in card
    assert all(f"{info.channels} channels at 1/{info.stride}" in card for info in net.feature_info)


def test_structure_that_weights_settled_is_saved(cut_depths, tmp_path):
    """HorNet's output norms come with weights of a detector."""
    arch = shortened("hornet_tiny_7x7", cut_depths)
    source = create_backbone(arch, out_norm=True)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    net = HubBackbone(arch, pretrained=str(tmp_path / "net.pth"))
    net.save_pretrained(tmp_path / "net")
    again = HubBackbone.from_pretrained(tmp_path / "net")
    assert again.state_dict().keys() == net.state_dict().keys() and again.backbone.out_norms


def test_a_folder_without_a_backbone_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"arch is missing, in config.json or as an argument; allowed: van_b0, "):
        HubBackbone.from_pretrained(tmp_path)


# --- torchvision


@pytest.mark.parametrize("arch", PYRAMIDS)
def test_a_detector_of_torchvision_in_three_lines(arch, cut_depths):
    from backbones.torchvision import fpn

    model = FasterRCNN(fpn(shortened(arch, cut_depths)), num_classes=3, min_size=64, max_size=64)
    images, boxes = [torch.rand(3, 64, 64)], torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    losses = model(images, [{"boxes": boxes, "labels": torch.tensor([1])}])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    found = model.eval()(images)[0]
    assert found["boxes"].shape[1] == 4


def test_the_pyramid_is_torchvisions(cut_depths):
    from backbones.torchvision import fpn

    net = fpn(shortened("van_b0", cut_depths), out_channels=32, out_indices=(1, 2)).eval()
    x = torch.randn(1, 3, 64, 64)
    assert isinstance(net.fpn, FeaturePyramidNetwork) and net.out_channels == 32
    with torch.no_grad():
        maps = net(x)
        theirs = net.fpn(dict(zip("01", net.body(x))))
    assert [*maps] == ["0", "1", "pool"] and all(torch.equal(maps[name], theirs[name]) for name in maps)


# --- what a network looks at


@pytest.mark.parametrize("arch", SMALL)
def test_maps_of_attention_of_other_libraries(arch, cut_depths):
    cam, attr = pytest.importorskip("pytorch_grad_cam"), pytest.importorskip("captum.attr")
    clf, x = create_classifier(shortened(arch, cut_depths), num_classes=3).eval(), torch.randn(1, 3, 64, 64)
    stage = clf.backbone.stages[-1]
    assert cam.GradCAM(model=clf, target_layers=[stage])(x, targets=None).shape == (1, 64, 64)
    last = clf.backbone(x)[-1]
    assert attr.LayerGradCam(clf, stage).attribute(x, target=0).shape == (1, 1, *last.shape[2:])
    assert attr.IntegratedGradients(clf).attribute(x, target=0, n_steps=4).shape == x.shape


# --- transformers


@pytest.mark.parametrize("arch", SMALL)
def test_transformers_builds_saves_and_loads_a_backbone(arch, cut_depths, tmp_path):
    transformers = pytest.importorskip("transformers")
    from backbones.transformers import ZigguratConfig

    config = ZigguratConfig(arch=shortened(arch, cut_depths), out_indices=[1, 3])
    net = transformers.AutoBackbone.from_config(config).eval()
    x = torch.randn(1, 3, 64, 64)
    plain = create_backbone(arch, out_indices=(1, 3)).eval()
    plain.load_state_dict(net.net.state_dict())
    with torch.no_grad():
        maps = net(pixel_values=x).feature_maps
        assert all(map(torch.equal, maps, plain(x)))
    assert net.channels == [map_.shape[1] for map_ in maps] and net.out_features == ["stage2", "stage4"]
    net.save_pretrained(tmp_path / "net")
    again = type(net).from_pretrained(str(tmp_path / "net")).eval()
    with torch.no_grad():
        assert all(map(torch.equal, maps, again(x).feature_maps))


def test_a_head_of_transformers_trains_on_a_backbone(cut_depths):
    transformers = pytest.importorskip("transformers")
    from backbones.transformers import ZigguratConfig

    backbone = ZigguratConfig(arch=shortened("van_b0", cut_depths), out_indices=[0, 1, 2, 3])
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=3, auxiliary_channels=8, auxiliary_in_channels=160
    )
    model = transformers.UperNetForSemanticSegmentation(config)
    out = model(torch.randn(2, 3, 64, 64), labels=torch.zeros(2, 64, 64, dtype=torch.long))
    out.loss.backward()
    assert out.logits.shape == (2, 3, 64, 64)
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())


# --- segmentation_models_pytorch


@pytest.mark.parametrize("arch", PYRAMIDS)
@pytest.mark.parametrize("kind", ["Unet", "FPN", "DeepLabV3Plus"])
def test_a_decoder_of_smp_takes_the_maps(arch, kind, cut_depths):
    smp = pytest.importorskip("segmentation_models_pytorch")
    import backbones.smp  # noqa: F401

    model = getattr(smp, kind)(f"zg-{shortened(arch, cut_depths)}", encoder_weights=None, in_channels=4, classes=2)
    out = model(torch.randn(2, 4, 64, 64))
    assert out.shape == (2, 2, 64, 64)
    out.mean().backward()


def test_smp_names_an_allowed_depth():
    pytest.importorskip("segmentation_models_pytorch")
    from backbones.smp import Encoder

    with pytest.raises(UserError, match="encoder_depth of zg-van_b0 is 6; allowed: 2 to 5"):
        Encoder("van_b0", depth=6)
