"""Weights of other trainers load, from any entry, and with any prefix and wrapper before the names."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from backbones import FAMILIES, FeatureExtractor, UserError, convert, create_backbone, load_weights
from backbones.errors import Notice
from classification import Classifier, create_classifier


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One block a stage."""
    with pytest.MonkeyPatch.context() as patch:
        for family in FAMILIES:
            rows = {arch: row._replace(depths=(1, 1, 1, 1)) for arch, row in family.ARCHS.items()}
            patch.setattr(family, "ARCHS", rows)
        yield


@pytest.fixture(scope="module")
def donor():
    torch.manual_seed(1)
    return create_backbone("van_b0")


def renamed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def assert_loads(donor, content, place, **kwargs):
    net = create_backbone(donor.arch)
    report = load_weights(net, content, **kwargs)
    assert report.missing == [] and report.place == place
    assert all(torch.equal(value, donor.state_dict()[name]) for name, value in net.state_dict().items())
    return report


PREFIXES = ("module.", "model.", "net.", "encoder.", "clf.", "model.encoder.", "module.model.net.", "my.own.words.")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("inner", ["", "backbone."])
def test_a_common_prefix_is_found_and_said(donor, prefix, inner):
    others = {"head_of_theirs.weight": torch.ones(3), "n_averaged": torch.tensor(7)}
    state = renamed(donor.state_dict(), prefix + inner) | others
    report = assert_loads(donor, state, prefix.rstrip("."))
    assert report.source == "ziggurat" and report.unexpected == list(others)


@pytest.mark.parametrize("source", convert.sources("van_b0"))
@pytest.mark.parametrize("prefix", ["model.", "module.encoder."])
def test_published_names_are_found_behind_a_prefix(donor, source, prefix):
    state, _ = convert.write_state("van_b0", donor.ARCHS["van_b0"], donor.state_dict(), source)
    report = assert_loads(donor, renamed(state, prefix), prefix.rstrip("."))
    assert report.source == source


@pytest.mark.parametrize("word", ["_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module."])
def test_words_of_wrappers_are_left_out_wherever_they_stand(donor, word):
    names = {name: name.replace("blocks.0.", f"blocks.0.{word}") for name in donor.state_dict()}
    state = {f"module.{word}{names[name]}": value for name, value in donor.state_dict().items()}
    assert_loads(donor, state, "module")


ENTRIES = ("state_dict", "model", "model_state_dict", "net", "module", "model_state", "weights.of.mine")


@pytest.mark.parametrize("entry", ENTRIES)
def test_tensors_are_found_in_any_entry(donor, entry):
    content = renamed(donor.state_dict(), "module.")
    for key in reversed(entry.split(".")):
        content = {key: content}
    moments = {i: {"exp_avg": torch.ones(2)} for i in range(3)}
    content |= {"epoch": 3, "optimizer": {"state": moments, "param_groups": []}, "loss": torch.ones(1)}
    assert_loads(donor, content, f"{entry}.module")


PAIRS = [("state_dict_ema", "state_dict"), ("model_ema", "model"), ("teacher", "student"), ("ema", "net")]


@pytest.mark.parametrize(("averaged", "raw"), PAIRS)
def test_of_two_sets_the_averaged_is_taken_unless_another_is_asked_for(donor, averaged, raw):
    other = create_backbone("van_b0")
    content = {raw: other.state_dict(), averaged: donor.state_dict()}
    with pytest.warns(UserWarning, match=f"loaded {averaged}; which='{raw}' loads the other"):
        report = assert_loads(donor, content, averaged)
    assert report.others == (raw,)
    for which in ("ema", averaged):
        assert_loads(donor, content, averaged, which=which)
    for which in ("raw", raw):
        assert_loads(other, content, raw, which=which)
    with pytest.raises(UserError, match=rf"which is 'best'; allowed here: ema, raw, {raw}, {averaged}"):
        load_weights(create_backbone("van_b0"), content, which="best")
    assert_loads(donor, {averaged: donor.state_dict()}, averaged)  # alone, it needs no word


def test_two_sets_in_one_flat_state_dict(donor):
    other = create_backbone("van_b0")
    content = renamed(other.state_dict(), "student.backbone.") | renamed(donor.state_dict(), "teacher.backbone.")
    with pytest.warns(UserWarning, match="which='student'"):
        assert_loads(donor, content, "teacher")
    report = assert_loads(other, content, "student", which="student")
    assert set(report.unexpected) == set(renamed(donor.state_dict(), "teacher.backbone."))


def test_mmengine_swaps_averaged_and_raw(donor):
    """Its EMAHook writes the averaged weights where others write the raw ones."""
    other = create_backbone("van_b0")
    content = {"message_hub": {}, "state_dict": renamed(donor.state_dict(), "backbone.")}
    content["ema_state_dict"] = renamed(other.state_dict(), "module.backbone.") | {"steps": torch.tensor(3)}
    with pytest.warns(UserWarning, match="which='ema_state_dict"):
        assert_loads(donor, content, "state_dict")
    assert_loads(other, content, "ema_state_dict.module", which="raw")


@pytest.mark.parametrize("arch", ["hornet_tiny_gf", "pvig_tiny", "vig_tiny", "vvt_tiny"])
def test_every_family_is_found(arch):
    donor = create_backbone(arch)
    for source in ("ziggurat", *convert.sources(arch)):
        state = donor.state_dict()
        if source != "ziggurat":
            state, _ = convert.write_state(arch, donor.ARCHS[arch], state, source)
        report = assert_loads(donor, {"model_ema": renamed(state, "_orig_mod.encoder.")}, "model_ema.encoder")
        assert report.source.split("-")[0] == source.split("-")[0]


def test_what_is_left_out_is_named_as_the_file_writes_it(donor):
    state = renamed(donor.state_dict(), "model.")
    state["model.stages.0.gain"] = torch.ones(1)
    with pytest.raises(UserError, match=r"1 unexpected \(model\.stages\.0\.gain\)"):
        load_weights(create_backbone("van_b0"), state)
    report = load_weights(create_backbone("van_b0"), state, strict=False)
    assert report.unexpected == ["model.stages.0.gain"]


def test_mmsegs_van_differs_in_one_name_and_in_the_norms_eps(donor):
    """projects/van of mmsegmentation@76b6b89: MSCAN's Mlp, whose dwconv is the convolution itself; nn.LayerNorm."""
    official, _ = convert.write_state("van_b0", donor.ARCHS["van_b0"], donor.state_dict(), "official")
    state = {name.replace("mlp.dwconv.dwconv.", "mlp.dwconv."): value for name, value in official.items()}
    for content in (state, {"state_dict": renamed(state, "backbone.") | {"decode_head.conv.bias": torch.ones(1)}}):
        net = create_backbone("van_b0")
        report = load_weights(net, content)
        assert (report.source, report.missing) == ("mmseg", []) and net.arguments()["norm_eps"] == 1e-5


@pytest.mark.parametrize(
    "wrap", [torch.compile, nn.DataParallel, AveragedModel, lambda m: torch.compile(AveragedModel(m))]
)
def test_wrapped_models_are_filled(donor, wrap):
    clf = create_classifier("van_b0", num_classes=3)
    for model in (wrap(create_backbone("van_b0")), wrap(create_classifier("van_b0", num_classes=3))):
        state = model.state_dict()
        whole = any("head." in name for name in state)
        assert load_weights(model, clf.state_dict()).missing == []
        theirs = clf.state_dict() if whole else clf.backbone.state_dict()
        for name, value in model.state_dict().items():
            name = name.replace("_orig_mod.", "").replace("module.", "")
            assert name == "n_averaged" or torch.equal(value, theirs[name])


@pytest.mark.parametrize("wrap", [checkpoint_wrapper, torch.compile])
def test_a_network_with_wrapped_blocks_is_filled(donor, wrap):
    net = create_backbone("van_b0")
    net.stages[2].blocks[0] = wrap(net.stages[2].blocks[0])
    assert load_weights(net, donor.state_dict()).missing == []
    held = {name.replace("_orig_mod.", ""): value for name, value in net.state_dict().items()}
    assert all(torch.equal(value, held[name]) for name, value in donor.state_dict().items())


@pytest.fixture
def mesh(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_sharded_network_is_filled(donor, mesh):
    from torch.distributed.fsdp import fully_shard

    net = create_backbone("van_b0")
    for stage in net.stages:
        fully_shard(stage, mesh=mesh)
    fully_shard(net, mesh=mesh)
    assert load_weights(net, donor.state_dict()).missing == []
    for name, value in net.state_dict().items():
        value = value.full_tensor() if hasattr(value, "full_tensor") else value
        assert torch.equal(value, donor.state_dict()[name])


def test_a_network_in_ddp_is_filled(donor, mesh):
    net = create_backbone("van_b0")
    assert load_weights(nn.parallel.DistributedDataParallel(net), donor.state_dict()).missing == []
    assert all(torch.equal(value, donor.state_dict()[name]) for name, value in net.state_dict().items())


def test_a_sharded_filter_keeps_its_size(mesh):
    from torch.distributed.fsdp import fully_shard

    donor = create_backbone("hornet_tiny_gf", filter_sizes=(None, None, (20, 11), (10, 6)))
    net = create_backbone("hornet_tiny_gf")
    fully_shard(net, mesh=mesh)
    with pytest.raises(UserError, match="global filter is a DTensor and keeps its size; allowed: load it before"):
        load_weights(net, donor.state_dict())


@pytest.mark.parametrize("which", [None, "ema", "raw", "state_dict"])
def test_every_way_to_build_a_network_takes_the_same_word(which, tmp_path):
    """Backbone, classifier, features and a classifier's config, where the sets differ in structure too."""
    kinds = {"raw": create_classifier("hornet_tiny_gf", 3), "ema": create_classifier("hornet_tiny_gf", 3)}
    content = {"state_dict": kinds["raw"].state_dict(), "state_dict_ema": kinds["ema"].state_dict()}
    torch.save(content, tmp_path / "both.pth")
    expected = kinds["ema" if which in (None, "ema") else "raw"]
    given = dict(pretrained=str(tmp_path / "both.pth"), which=which)
    configured = Classifier(dict(type="HorNet", arch="hornet_tiny_gf", **given), num_classes=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if which else "ignore", Notice)  # a choice needs no note about the other set
        configured.init_weights()
        found = create_classifier(num_classes=3, **given)
        backbone = create_backbone("hornet_tiny_gf", out_indices=(-1,), **given)
        maps = FeatureExtractor("hornet_tiny_gf", (-1,), fuse=False, **given)
    for clf in (configured, found):
        assert all(torch.equal(value, expected.state_dict()[name]) for name, value in clf.state_dict().items())
    for net in (backbone, maps.net):
        wanted = expected.backbone.state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in net.state_dict().items())


def test_a_word_for_no_set_is_named(donor, tmp_path):
    torch.save(donor.state_dict(), tmp_path / "one.pth")
    with pytest.raises(UserError, match=r"one\.pth: which is 'best'; allowed here"):
        create_backbone("van_b0", pretrained=str(tmp_path / "one.pth"), which="best")
    with pytest.raises(UserError, match=r"which is 3; allowed: None, 'ema', 'raw'"):
        create_backbone("van_b0", which=3)
