"""An own checkpoint brings structure, norm eps and statistics along, without a config."""

import json

import numpy as np
import pytest
import torch
from helpers import SMALL, trained_norms
from torch import nn

import backbones
from backbones import FAMILIES, FeatureExtractor, UserError, convert, create_backbone, load_weights
from backbones.registry import settled_arguments
from backbones.weights import (
    WEIGHTS,
    files,
    list_weights,
    match_structure,
    match_structures,
    own_meta,
    read_checkpoint,
    read_own_meta,
    save_safely,
    statistics,
)
from backbones.weights.own import from_json, to_json
from backbones.weights.table import HALF, IMAGENET
from classification import create_classifier

FILTERS = [None, None, [20, 11], [10, 6]]
ARGUMENTS = [
    {"arch": "van_b0", "norm_eps": 1e-5, "in_chans": 4},
    {"arch": "van_b0", "output_stride": 8},
    {"arch": "van_b0", "out_indices": [1]},
    {"arch": "hornet_tiny_gf", "filter_sizes": FILTERS, "out_norm": True},
    {"arch": "hornet_tiny_gf", "out_indices": [0, 2]},
    {"arch": "hornet_tiny_7x7", "out_norm": True},
    {"arch": "hornet_tiny_gf", "output_stride": 8},
    {"arch": "pvig_tiny", "conv": "edge", "relative_position": "grid"},
    {"arch": "pvig_tiny", "output_stride": 16},
    {"arch": "vvt_tiny", "output_stride": 8},
    {"arch": "vig_tiny", "conv": "sage", "out_blocks": [1, 2]},
    {"arch": "vig_tiny", "out_indices": [0, 1]},
    {"arch": "vvt_tiny", "in_chans": 1},
]


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One block a stage."""
    with pytest.MonkeyPatch.context() as patch:
        for family in FAMILIES:
            rows = {arch: row._replace(depths=(1, 1, 1, 1)) for arch, row in family.ARCHS.items()}
            patch.setattr(family, "ARCHS", rows)
        yield


def save_own(model, path, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), **rest):
    """A checkpoint as a run of ours leaves it, in either kind of file."""
    meta = {"ziggurat": own_meta(model, mean, std, **rest)}
    state = model.state_dict()
    save_safely(state | {"meta": meta} if path.suffix == ".safetensors" else {"meta": meta, "state_dict": state}, path)
    return path


def maps_of(net):
    torch.manual_seed(3)
    with torch.no_grad():
        return net.eval()(torch.randn(1, net.in_chans, 64, 96))


def assert_same(net, other):
    assert net.arguments() == other.arguments()
    for ours, theirs in zip(maps_of(net), maps_of(other), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_build_the_same_structure(arguments):
    """Also after a way through JSON, as configs and safetensors take them."""
    net = create_backbone(**arguments)
    told = json.loads(json.dumps(net.arguments()))
    assert told == net.arguments() and arguments.items() <= told.items()
    again = create_backbone(**told)
    again.load_state_dict(net.state_dict())
    assert_same(net, again)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_an_own_checkpoint_is_the_same_network_bit_for_bit(arguments, suffix, tmp_path):
    net = trained_norms(create_backbone(**arguments))
    path = save_own(net, tmp_path / f"own{suffix}")
    wanted = {name: arguments[name] for name in ("out_indices", "out_blocks") if name in arguments}
    assert_same(net, create_backbone(pretrained=path, **wanted))
    assert_same(net, create_backbone(arguments["arch"], pretrained=str(path), **wanted))


@pytest.mark.parametrize("source", convert.sources("van_b0"))
def test_the_eps_of_a_format_survives_training_and_reloading(source, tmp_path):
    row = create_backbone("van_b0").ARCHS["van_b0"]
    theirs, _ = convert.write_state("van_b0", row, trained_norms(create_backbone("van_b0")).state_dict(), source)
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    net = create_backbone("van_b0", pretrained=tmp_path / "theirs.pth")
    assert net.arguments()["norm_eps"] == {"official": 1e-6, "huggingface": 1e-6}.get(source, 1e-5)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    sum(m.square().mean() for m in net(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    assert_same(net, create_backbone(pretrained=save_own(net, tmp_path / "own.pth")))


def test_a_given_eps_stays_and_an_open_one_follows_each_load(tmp_path):
    states = {}
    for source in ("official", "mmpretrain"):
        net = create_backbone("van_b0")
        states[source], _ = convert.write_state("van_b0", net.ARCHS["van_b0"], net.state_dict(), source)
        torch.save(states[source], tmp_path / f"{source}.pth")
    given = create_backbone("van_b0", norm_eps=1e-4, pretrained=tmp_path / "mmpretrain.pth")
    followed = create_backbone("van_b0", pretrained=tmp_path / "mmpretrain.pth")
    for source, eps in (("mmpretrain", 1e-5), ("official", 1e-6), ("mmpretrain", 1e-5)):
        for net in (given, followed):
            load_weights(net, states[source])
        assert {stage.norm.eps for stage in given.stages} == {1e-4}
        assert {stage.norm.eps for stage in followed.stages} == {eps}


def test_filters_and_output_norms_follow_a_file_and_parameters_stay_objects(tmp_path):
    donor = create_backbone("hornet_tiny_gf", filter_sizes=FILTERS, out_norm=True)
    torch.save(donor.state_dict(), tmp_path / "w.pth")
    assert_same(donor, create_backbone("hornet_tiny_gf", pretrained=tmp_path / "w.pth"))
    net = create_backbone("hornet_tiny_gf", out_norm=False)
    known = {id(parameter) for parameter in net.parameters()}
    load_weights(net, donor.state_dict())
    assert net.arguments()["filter_sizes"] == FILTERS and not net.out_norms
    assert known == {id(parameter) for parameter in net.parameters()}


def test_filters_of_given_sizes_are_resized_by_a_load_as_in_the_official_code():
    donor = create_backbone("hornet_tiny_gf")
    net = create_backbone("hornet_tiny_gf", filter_sizes=FILTERS)
    assert load_weights(net, donor.state_dict()).missing == []
    assert net.arguments()["filter_sizes"] == FILTERS
    for name, stored in donor.state_dict().items():
        if name.endswith("complex_weight"):  # mmcv_custom/checkpoint.py of the official code
            size = FILTERS[int(name.split(".")[1])]
            stored = stored.permute(3, 0, 1, 2)
            stored = torch.nn.functional.interpolate(stored, size=size, mode="bilinear", align_corners=True)
            stored = stored.permute(1, 2, 3, 0)
        torch.testing.assert_close(net.state_dict()[name], stored, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arch", "arguments", "words"),
    [
        ("van_b0", {"norm_eps": 0}, "norm_eps is 0; allowed: 0 < norm_eps < 1"),
        ("van_b0", {"norm_eps": "1e-5"}, "norm_eps is '1e-5'"),
        ("hornet_tiny_gf", {"filter_sizes": [None, None, [14, 8]]}, "filter_sizes is .*allowed: .None, None, .height"),
        ("hornet_tiny_gf", {"filter_sizes": [None, None, [14], [7, 4]]}, "filter_sizes is"),
        ("hornet_tiny_gf", {"filter_sizes": 3}, "filter_sizes is 3"),
        ("hornet_tiny_gf", {"filter_sizes": [None, None, [14, 0], [7, 4]]}, "filter_sizes is"),
        ("hornet_tiny_7x7", {"filter_sizes": FILTERS}, "allowed: .None, None, None, None"),
        ("vig_tiny", {"norm_eps": 1e-5}, "unknown argument of ViG.*'norm_eps'"),
        ("van_b0", {"pretrained": 3}, "pretrained is 3; allowed: None, True"),
        ("van_b0", {"pretrained": ""}, "pretrained is ''"),
    ],
)
def test_wrong_arguments_are_named(arch, arguments, words):
    with pytest.raises(UserError, match=words):
        create_backbone(arch, **arguments)


def test_true_is_the_first_row():
    for arch in backbones.list_archs():
        family = next(family for family in FAMILIES if arch in family.ARCHS)
        with torch.device("meta"):
            assert family(arch, pretrained=True).pretrained == list_weights(f"{arch}.*")[0]
    assert statistics("van_b4", True)[:2] == HALF and statistics("van_b5", True)[:2] == IMAGENET
    with pytest.raises(UserError, match=r"vvt_tiny\.in1k.*browser"):
        create_backbone("vvt_tiny", pretrained=True)


def test_names_are_listed_by_pattern():
    assert list_weights() == list(WEIGHTS)
    assert backbones.list_weights("van_b4*") == ["van_b4.in1k", "van_b4.in22k"]
    assert all(name.endswith(".in22k") for name in list_weights("*.in22k"))


@pytest.fixture
def reads(monkeypatch):
    """The names of the files read, in order; nothing is left waiting at the start."""
    names, read_file = [], files.read_file
    monkeypatch.setattr(files, "READ_AHEAD", {})
    monkeypatch.setattr(files, "read_file", lambda path: names.append(path.name) or read_file(path))
    return names


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_read_once_per_load(suffix, tmp_path, reads):
    path = save_own(create_classifier("hornet_tiny_gf", num_classes=3), tmp_path / f"w{suffix}")
    ways = [
        lambda: create_backbone("hornet_tiny_gf", pretrained=path),
        lambda: create_backbone(pretrained=path),
        lambda: FeatureExtractor("hornet_tiny_gf", pretrained=path),
        lambda: create_classifier(pretrained=path),
        lambda: (match_structure(net := create_backbone("hornet_tiny_gf"), path), load_weights(net, path)),
        lambda: (statistics("hornet_tiny_gf", path), create_backbone("hornet_tiny_gf", pretrained=path)),
    ]
    for count, way in enumerate(ways, 1):
        way()
        assert len(reads) == count and files.READ_AHEAD == {}


def test_what_was_read_ahead_is_not_another_file(tmp_path, reads):
    first, second = create_backbone("van_b0"), create_backbone("van_b0")
    torch.save(first.state_dict(), tmp_path / "w.pth")
    statistics("van_b0", tmp_path / "w.pth")
    save_safely(second.state_dict(), tmp_path / "w.pth")
    net = create_backbone("van_b0", pretrained=tmp_path / "w.pth")
    assert torch.equal(net.stem.conv.weight, second.stem.conv.weight) and len(reads) == 2


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_classifier_of_ours_says_its_classes(suffix, tmp_path):
    clf = create_classifier("van_b0", num_classes=3, norm_eps=1e-5).eval()
    path = save_own(clf, tmp_path / f"clf{suffix}", task="classification", classes=["a", "b", "c"])
    again = create_classifier(pretrained=path).eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(clf(x), again(x))
    own = read_own_meta(read_checkpoint(path))
    assert own["classes"] == ["a", "b", "c"] and own["task"] == "classification"
    assert (own["format"], own["version"]) == (1, backbones.__version__)
    save_safely(clf.state_dict(), tmp_path / "bare.pth")  # of anybody's, 1000 are expected, as ever
    with pytest.warns(UserWarning, match="head"):
        assert create_classifier("van_b0", pretrained=tmp_path / "bare.pth").num_classes == 1000


def test_a_detector_of_ours_gives_its_backbone(tmp_path):
    detector = nn.Module()
    detector.backbone = create_backbone("hornet_tiny_gf", filter_sizes=FILTERS, out_norm=True)
    detector.neck = nn.Conv2d(3, 3, 1)
    path = save_own(detector, tmp_path / "det.pth", task="detection", classes=["cat"], config={"lr": 0.1, "x": (1, 2)})
    assert_same(detector.backbone, create_backbone(pretrained=path))
    assert read_own_meta(read_checkpoint(path))["config"] == {"lr": 0.1, "x": (1, 2)}
    detector.backbone = create_backbone("hornet_tiny_gf")
    content = read_checkpoint(path)
    match_structures(detector, content["state_dict"], read_own_meta(content))
    detector.load_state_dict(content["state_dict"])


def test_a_network_of_others_has_no_arguments():
    own = own_meta(nn.Linear(2, 2), None, None, classes=("a",))
    assert own["backbone"] is None and own["mean"] is None and own["classes"] == ["a"]


def test_meta_becomes_plain_types():
    own = own_meta(create_backbone("van_b0"), np.array([0.5, 0.5, 0.5]), torch.ones(3), config={1: {"a": (1, {2})}})
    assert own["mean"] == [0.5] * 3 and own["std"] == [1.0] * 3 and own["config"] == {"1": {"a": (1, [2])}}
    assert from_json(to_json(own)) == own


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"format": 2, "version": "9.9"}, r"format is 2, it was written by Ziggurat 9\.9; allowed: up to 1"),
        ({"format": "x"}, "damaged"),
        (3, "damaged"),
        ({"format": 1, "backbone": {"arch": 3}}, "backbone is damaged"),
        ({"format": 1, "mean": "0.5"}, "mean is '0.5'"),
    ],
)
def test_a_damaged_or_later_meta_is_one_line(own, words, tmp_path):
    net = create_backbone("van_b0")
    torch.save({"state_dict": net.state_dict(), "meta": {"ziggurat": own}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        create_backbone("van_b0", pretrained=tmp_path / "w.pth")


def test_settled_arguments_are_known_before_there_is_a_network(tmp_path):
    """Which is how a config is completed."""
    donor = create_backbone("hornet_tiny_gf", filter_sizes=FILTERS, out_norm=True, in_chans=4)
    path = save_own(donor, tmp_path / "w.pth")
    settled = {"filter_sizes": FILTERS, "out_norm": True, "in_chans": 4, "output_stride": 32}
    assert settled_arguments("hornet_tiny_gf", path) == settled
    assert settled_arguments("van_b0", None) == {}


@pytest.mark.parametrize("arch", SMALL)
def test_statistics_of_a_file_are_what_it_says_else_the_familys(arch, tmp_path):
    published = HALF if arch.startswith(("van", "pvig", "vig")) else IMAGENET
    net = create_backbone(arch)
    torch.save(net.state_dict(), tmp_path / "theirs.pth")
    own = save_own(net, tmp_path / "own.pth")
    for pretrained, expected, words in (
        (None, published, "family"),
        (tmp_path / "theirs.pth", published, "family"),
        (net.state_dict(), published, "family"),
        (False, published, "family"),
        (own, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), f"run that wrote {own}"),
        (list_weights(f"{arch}.*")[0], WEIGHTS[list_weights(f"{arch}.*")[0]].input, "of the weights"),
    ):
        found = statistics(arch, pretrained)
        assert found[:2] == expected and words in found.source
    fx = FeatureExtractor(arch, pretrained=own)
    assert fx.statistics == statistics(arch, own) and f"run that wrote {own}" in repr(fx)


def test_a_downloaded_file_has_its_rows_statistics():
    """VAN's 22K weights were trained with others than its 1K weights."""
    url = WEIGHTS["van_b4.in22k"].urls[0]
    for pretrained in (url, f"downloads/{url.rpartition('/')[2]}"):
        assert statistics("van_b4", pretrained)[:2] == IMAGENET


def test_the_extractor_normalises_as_the_weights_want(tmp_path):
    """A VVT file can only be given as a path, and was trained with ImageNet's statistics."""
    torch.save(create_backbone("vvt_tiny").state_dict(), tmp_path / "w.pth")
    fx = FeatureExtractor("vvt_tiny", pretrained=tmp_path / "w.pth", fuse=False)
    image = torch.rand(3, 48, 64)
    normalised = (image - torch.tensor(IMAGENET.mean)[:, None, None]) / torch.tensor(IMAGENET.std)[:, None, None]
    with torch.no_grad():
        for ours, theirs in zip(fx(image), fx.net(normalised[None]), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_channels_beyond_rgb_get_the_average():
    fx = FeatureExtractor("hornet_tiny_7x7", in_chans=5)
    assert fx.statistics.mean == pytest.approx([*IMAGENET.mean, 0.449, 0.449], abs=1e-6)
    assert fx.statistics.std == pytest.approx([*IMAGENET.std, 0.226, 0.226], abs=1e-6)
    assert "averaged for channels beyond the third" in fx.statistics.source
    grey = FeatureExtractor("hornet_tiny_7x7", in_chans=1).statistics
    assert grey.mean == pytest.approx([0.449], abs=1e-6) and "1 channel" in grey.source
    given = FeatureExtractor("van_b0", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)).statistics
    assert given.source == "given"
    half = FeatureExtractor("van_b0", mean=(0.1, 0.2, 0.3)).statistics
    assert half[:2] == ((0.1, 0.2, 0.3), HALF.std) and "family" in half.source
    with pytest.raises(UserError, match=r"mean is .*; allowed: 4 numbers or one for all"):
        FeatureExtractor("van_b0", in_chans=4, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_a_probe_can_be_trained_on_the_maps():
    maps = FeatureExtractor("van_b0", out_indices=(3,))(torch.rand(2, 3, 64, 64))
    probe = nn.Conv2d(256, 2, 1)
    probe(maps[0]).mean().backward()
    assert probe.weight.grad is not None and not maps[0].requires_grad
