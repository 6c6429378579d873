"""FeatureExtractor: any readable image in, aligned maps out. An image's maps do not depend on other images."""

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import FeatureExtractor, UserError, create_backbone, param_groups
from backbones.features import pca_colours
from backbones.images import list_images, output_stems, read_image


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    return FeatureExtractor("van_b0", out_indices=(1, 3))


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", pixels


@pytest.mark.numeric
def test_every_kind_of_image_gives_the_same_maps(extractor, photo):
    path, pixels = photo
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [path, str(path), Image.open(path), pixels, tensor, tensor[None], tensor / 255, pixels.astype("f4") / 255]
    expected = extractor([path])
    assert [tuple(m.shape) for m in expected] == [(1, 64, 6, 8), (1, 256, 2, 2)]
    for form in forms:
        for ours, theirs in zip(extractor(form), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_preprocessing_is_that_of_the_weights(photo):
    """The extractor equals the bare network on a hand-normalised image."""
    path, pixels = photo
    extractor = FeatureExtractor("van_b0", fuse=False, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    image = (image - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    with torch.no_grad():
        for ours, theirs in zip(extractor(path), extractor.net(image), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.numeric
def test_images_of_different_sizes_keep_their_own_maps(extractor):
    images = [np.random.default_rng(i).integers(0, 256, (*s, 3), np.uint8) for i, s in enumerate([(40, 70), (64, 33)])]
    together = extractor(images)
    assert [tuple(m.shape) for m in together] == [(2, 64, 8, 9), (2, 256, 2, 3)]
    assert together.image_sizes == [(40, 70), (64, 33)]
    for i, image in enumerate(images):
        for ours, theirs in zip(together.of(i), extractor(image), strict=True):
            torch.testing.assert_close(ours, theirs[0])
    assert together[0][0, :, 5:].abs().max() == 0


def test_short_side_resizes(extractor, photo):
    resized = FeatureExtractor("van_b0", short_side=96)(photo[0])
    assert resized.image_sizes == [(96, 128)]


def test_half_precision_maps(photo):
    assert all(m.dtype == torch.bfloat16 for m in FeatureExtractor("van_b0", dtype=torch.bfloat16)(photo[0]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ([], "no images"),
        ("absent.png", r"absent\.png"),
        (np.zeros((20, 50, 3), np.uint8), "20x50"),
        (np.zeros((50, 50, 4), np.uint8), "image is"),
        (3, "image is int"),
    ],
)
def test_wrong_images_are_named(extractor, image, words):
    with pytest.raises(UserError, match=words):
        extractor(image if isinstance(image, list) else [image])


def test_wrong_device_is_named():
    with pytest.raises(UserError, match="device 'cuda:99' is not available; allowed here: cpu"):
        FeatureExtractor("van_b0", device="cuda:99")


def test_unreadable_files_are_named(photo, tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.png").write_bytes(photo[0].read_bytes()[:600])
    for name in ("text.jpg", "cut.png", "absent.png", "."):
        with pytest.raises(UserError, match=str(tmp_path)):
            read_image(tmp_path / name)


def test_folders_are_searched_and_stems_kept_apart(photo, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(photo[0].read_bytes())
    paths = list_images([tmp_path, photo[0]])
    assert [p.name for p in paths] == ["x.png", "x.png", "photo.png", "photo.png"]
    assert len(set(output_stems(paths))) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        list_images([tmp_path / "empty"])


def test_pca_colours_show_the_main_directions():
    """A map that varies along three orthogonal directions, the strongest first, comes back as those."""
    torch.manual_seed(0)
    waves = torch.rand(3, 12, 10)
    basis = torch.linalg.qr(torch.randn(16, 3))[0]
    image = pca_colours(torch.einsum("cd,dhw->chw", basis, waves * torch.tensor([100.0, 10.0, 1.0])[:, None, None]))
    assert image.shape == (12, 10, 3) and image.dtype == np.uint8
    for channel in range(3):
        seen = np.corrcoef(image[:, :, channel].ravel(), waves[channel].numpy().ravel())[0, 1]
        assert abs(seen) > 0.9


def test_param_groups_follow_names_and_depths():
    net = create_backbone("van_b0", frozen_stages=0)
    groups = param_groups(net, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    by_name = {name: group for group in groups for name in group["names"]}
    assert set(by_name) == {name for name, p in net.named_parameters() if p.requires_grad}
    assert sum(len(g["params"]) for g in groups) == len(by_name)
    layers = sum(net.depths) + 1
    assert by_name["stages.0.blocks.0.mlp.fc1.weight"]["lr"] == 0.5 ** (layers - 1)
    assert by_name["stages.1.downsample.conv.weight"]["lr"] == 0.5 ** (layers - 4)
    assert by_name["stages.1.blocks.0.mlp.fc1.weight"]["lr"] == 0.5 ** (layers - 4)
    assert by_name["stages.3.norm.weight"]["lr"] == by_name["stages.3.blocks.1.mlp.fc2.weight"]["lr"] == 0.5
    for name, group in by_name.items():
        decays = name.endswith("weight") and "norm" not in name
        assert group["weight_decay"] == (0.1 if decays else 0.0), name
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates)


def test_param_groups_of_a_whole_model():
    model = torch.nn.Module()
    model.backbone = create_backbone("van_b0", out_indices=(0,))
    model.head = torch.nn.Linear(2, 2)
    groups = param_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.9)
    top = {name: group for group in groups for name in group["names"]}
    assert top["head.weight"]["lr"] == 1.0 and top["backbone.stem.conv.weight"]["lr"] == pytest.approx(0.9**14)
    for layer_decay in (0, "0.9"):
        with pytest.raises(UserError, match="layer_decay"):
            param_groups(model, 1.0, 0.1, layer_decay=layer_decay)
    with pytest.raises(UserError, match="no_decay is 'pos_embed'; allowed: a tuple"):
        param_groups(model, 1.0, 0.1, no_decay="pos_embed")
