"""FeatureExtractor: any readable image in, aligned maps out. An image's maps do not depend on other images."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import FeatureExtractor, UserError, create_backbone, param_groups
from backbones.colours import pca_colours
from backbones.image_files import list_images, output_stems
from backbones.images import read_image


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
        (np.zeros((50, 40, 4), np.uint8), r"\(50, 40, 4\); allowed: \(H, W, 3\) array or \(3, H, W\) tensor"),
        (np.zeros((3, 50, 40), np.uint8), r"\(3, 50, 40\); allowed: \(H, W, 3\) array or \(3, H, W\) tensor"),
        (torch.zeros(50, 40, 3), r"\(50, 40, 3\); allowed: \(H, W, 3\) array or \(3, H, W\) tensor"),
        (np.zeros((0, 40, 3), np.uint8), "image is empty"),
        (torch.zeros(3, 64, 64).to_sparse(), "image is torch.sparse_coo; allowed: a dense tensor"),
        (torch.zeros(3, 64, 64, device="meta"), "image is on the meta device"),
        (np.full((50, 40, 3), None), "image has values of type object"),
        (3, "image is 3; allowed: a path"),
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


@pytest.mark.parametrize("letter", ["x", "ä", "\udce9"])
def test_names_of_outputs_leave_room_for_suffixes(letter):
    longest = letter * (250 // len(os.fsencode(letter)))
    found = output_stems([Path("a", f"{longest}.png"), Path("b", f"{longest}.png"), Path("c", "x.png")])
    assert len(set(found)) == 3 and all(len(os.fsencode(name)) <= 225 for name in found)


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


@pytest.mark.parametrize(
    "arguments",
    [
        {"device": True},
        {"device": 99},
        {"device": 1.5},
        {"dtype": "float16"},
        {"dtype": torch.int32},
        {"dtype": False},
        {"short_side": "a"},
        {"short_side": 100.5},
        {"short_side": True},
        {"short_side": 0},
        {"short_side": -5},
    ],
)
def test_a_wrong_argument_is_one_line(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(UserError, match=rf"{name} (is )?'?{value}'?.*; allowed") as caught:
        FeatureExtractor("van_b0", out_indices=(0,), **arguments)
    assert "\n" not in str(caught.value)


def test_device_0_is_the_first_gpu():
    if torch.cuda.is_available():
        assert FeatureExtractor("van_b0", (0,), device=0).net.stem.conv.weight.device == torch.device("cuda:0")
    else:
        with pytest.raises(UserError, match="device '0' is not available; allowed here: cpu"):
            FeatureExtractor("van_b0", (0,), device=0)


@pytest.mark.parametrize("images", [3, None, True])
def test_what_is_no_image_is_named(extractor, images):
    with pytest.raises(UserError, match=f"images is {images}; allowed: an image, or a list of images"):
        extractor(images)


def test_an_image_outside_the_batch_is_named(extractor):
    pyramid = extractor(np.zeros((2, 32, 32, 3), np.uint8)[0])
    assert len(pyramid.of(-1)) == len(pyramid.of(np.int64(0))) == 2
    for image in (5, -2, True, "0"):
        with pytest.raises(UserError, match=r"image is .*; allowed: integers from -1 to 0"):
            pyramid.of(image)


def test_big_endian_arrays_are_converted(extractor, photo):
    values = photo[1].astype(np.float32) / 255
    for ours, theirs in zip(extractor(values.astype(">f4")), extractor(values), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1", "LA", "CMYK", "I;16"])
def test_a_network_of_one_channel_reads_grey(mode, tmp_path):
    """From a path as from a PIL image, a palette resolved."""
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) << 8)
    elif mode == "P":
        image = Image.fromarray(255 - grey).convert("P")  # index 0 is white
        image.putpalette([255 - i for i in range(256) for _ in range(3)])
        image.putdata(list(255 - grey.ravel()))
    else:
        image = Image.fromarray(grey).convert(mode)
    expected = grey if mode in ("P", "I;16") else np.asarray(Image.fromarray(grey).convert(mode).convert("L"))
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    extractor = FeatureExtractor("van_b0", (0,), in_chans=1)
    wanted = extractor(np.ascontiguousarray(expected))
    for form in (path, image):
        assert torch.equal(extractor(form)[0], wanted[0])


@pytest.mark.parametrize("mode", ["RGBA", "CMYK"])
def test_a_network_of_four_channels_reads_images_as_stored(mode, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    path = tmp_path / "image.tif"
    Image.fromarray(pixels, mode).save(path)
    extractor = FeatureExtractor("van_b0", (0,), in_chans=4)
    for form in (path, Image.open(path)):
        assert torch.equal(extractor(form)[0], extractor(pixels)[0])


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_a_file_without_so_many_channels_says_what_is_taken(channels, photo):
    extractor = FeatureExtractor("van_b0", (0,), in_chans=channels)
    words = (
        rf"photo\.png is an image of mode RGB; allowed: .*array \(H, W, {channels}\) or a tensor \({channels}, H, W\)"
    )
    with pytest.raises(UserError, match=words):
        extractor(photo[0])


@pytest.mark.parametrize("model", [3, None, "van_b0", torch.nn.Linear(2, 2)])
def test_param_groups_name_a_model_of_another_kind(model):
    with pytest.raises(UserError, match=r"model is .*; allowed: a network"):
        param_groups(model, 1.0, 0.1)
