"""Loading is strict, safe and reported. A file that does not fit changes nothing."""

import argparse
import json
import os
import pickle
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import backbones
from backbones import PViG, UserError, convert, create_backbone, load_weights, weights
from backbones.ops import GlobalFilter
from backbones.weights import read_checkpoint, save_safely
from backbones.weights.download import CONSENT
from backbones.weights.fetch import KNOWN_COPIES, fetch_first
from classification import create_classifier


class Code:
    def __reduce__(self):
        return os.mkdir, (os.environ["CODE_RAN"],)


@pytest.fixture(scope="module")
def b0():
    torch.manual_seed(1)
    return create_backbone("van_b0")


@pytest.mark.parametrize("save", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, save):
    monkeypatch.setenv("CODE_RAN", str(tmp_path / "ran"))
    save({"state_dict": {"a": torch.ones(1)}, "meta": Code()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="refused"):
        load_weights(create_backbone("van_b0"), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_the_unsafe_way_would_have_run_it(tmp_path, monkeypatch):
    """The test above would pass on a harmless file; this shows that the file is not harmless."""
    monkeypatch.setenv("CODE_RAN", str(tmp_path / "ran"))
    torch.save({"meta": Code()}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_cut_off_files_are_named(tmp_path, b0, suffix):
    path = tmp_path / f"cut{suffix}"
    save_safely(b0.state_dict(), path)
    whole = path.read_bytes()
    for keep in (0, 20, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=f"cut off: .*cut{suffix}"):
            read_checkpoint(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_cut_off_files_of_the_old_format_are_named(tmp_path, b0, keep):
    path = tmp_path / "cut.pth"
    torch.save(b0.state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    pickled = whole.index(b"stages.3.norm.bias")  # the tensors' values come after the names
    for end in (int(pickled * keep), int(len(whole) * keep)):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"cut off: .*cut\.pth"):
            read_checkpoint(path)


@pytest.mark.parametrize("text", ["error: not found", "<html>", "version https://git-lfs.github.com/spec/v1", ""])
def test_texts_are_no_checkpoints(tmp_path, text):
    (tmp_path / "w.pth").write_text(text)
    with pytest.raises(UserError, match=r"not a checkpoint, or cut off: .*w\.pth|refused: .*w\.pth"):
        read_checkpoint(tmp_path / "w.pth")


def test_options_of_a_training_script_are_read_over(tmp_path, b0):
    content = {"state_dict": b0.state_dict(), "args": argparse.Namespace(lr=0.1, opt="adamw"), "epoch": 3}
    torch.save(content, tmp_path / "run.pth.tar")
    assert load_weights(create_backbone("van_b0"), tmp_path / "run.pth.tar").missing == []


def test_mmengine_records_and_numpy_scalars_are_read(tmp_path):
    import numpy as np
    from mmengine.logging import HistoryBuffer

    buffer = HistoryBuffer()
    buffer.update(1.0)
    content = {"state_dict": {"a": torch.ones(2)}, "hub": {"loss": buffer}, "best_score": np.float32(0.5)}
    torch.save(content, tmp_path / "run.pth")
    read = read_checkpoint(tmp_path / "run.pth")
    assert torch.equal(read["state_dict"]["a"], torch.ones(2)) and read["best_score"] == 0.5
    assert not isinstance(read["hub"]["loss"], HistoryBuffer)


@pytest.mark.parametrize(
    ("suffix", "container"), [(".pth", None), (".pth", "state_dict"), (".pth", "model"), (".safetensors", None)]
)
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_our_own_files_in_all_wrappings(tmp_path, b0, suffix, container, prefix):
    state = {prefix + name: value for name, value in b0.state_dict().items()}
    save_safely({container: state} if container else state, tmp_path / f"w{suffix}")
    net = create_backbone("van_b0", pretrained=tmp_path / f"w{suffix}")
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in b0.state_dict().items())


def test_a_detector_checkpoint_gives_its_backbone(b0):
    state = {f"backbone.{name}": value for name, value in b0.state_dict().items()}
    state |= {"neck.conv.weight": torch.ones(1), "rpn_head.fc.bias": torch.ones(1)}
    report = load_weights(create_backbone("van_b0"), state)
    assert (report.source, report.missing) == ("ziggurat", [])
    assert report.unexpected == ["neck.conv.weight", "rpn_head.fc.bias"]


def test_stages_that_are_not_built_are_left_out(b0):
    report = load_weights(create_backbone("van_b0", out_indices=(1,)), b0.state_dict())
    assert report.missing == []
    assert {name.split(".")[1] for name in report.unexpected} == {"2", "3"}


def test_another_arch_is_named_with_keys_and_shapes(b0):
    net = create_backbone("van_b1")
    before = net.state_dict()["stem.conv.weight"].clone()
    with pytest.raises(UserError) as caught:
        load_weights(net, b0.state_dict())
    message = str(caught.value)
    assert all(word in message for word in ("van_b1", "(32,)", "(64,)", "unexpected", "it fits van_b0")), message
    assert torch.equal(net.state_dict()["stem.conv.weight"], before)


def test_another_arch_of_the_same_names_is_named_rather_than_its_tables():
    row, net = PViG.ARCHS["pvig_small"], create_backbone("pvig_small")
    state, _ = convert.write_state("pvig_small", row, net.state_dict(), "official")
    with pytest.raises(UserError, match=r"does not fit pvig_tiny: .*; it fits pvig_small"):
        load_weights(create_backbone("pvig_tiny"), state)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_one_wrong_tensor_raises_and_nothing_is_loaded(b0, change):
    state = dict(b0.state_dict())
    if change == "missing":
        del state["stages.3.norm.weight"]
    elif change == "unexpected":
        state["stages.3.norm.gain"] = torch.ones(256)
    else:
        state["stages.3.norm.weight"] = torch.ones(255)
    net = create_backbone("van_b0")
    before = net.state_dict()["stem.conv.weight"].clone()
    with pytest.raises(UserError, match=r"stages\.3\.norm\."):
        load_weights(net, state)
    assert torch.equal(net.state_dict()["stem.conv.weight"], before)
    report = load_weights(net, state, strict=False)
    assert torch.equal(net.state_dict()["stem.conv.weight"], b0.state_dict()["stem.conv.weight"])
    assert len(report.missing) + len(report.unexpected) >= 1


def test_nothing_known_raises_even_when_not_strict():
    with pytest.raises(UserError, match="no van_b0 in any known format"):
        load_weights(create_backbone("van_b0"), {"conv1.weight": torch.ones(1)}, strict=False)


def test_pytorchs_own_loading_takes_filters_of_any_size():
    """The parameters stay those that an optimiser knows."""
    donor, net = create_backbone("hornet_tiny_gf"), create_backbone("hornet_tiny_gf")
    sum(m.mean() for m in net(torch.randn(1, 3, 32, 32))).backward()
    known = {id(parameter) for parameter in net.parameters()}
    filters = [module for module in donor.modules() if isinstance(module, GlobalFilter)]
    for module in filters:
        module.resize((20, 11))
        torch.nn.init.normal_(module.complex_weight)
    net.load_state_dict(donor.state_dict())
    assert all(torch.equal(value, donor.state_dict()[name]) for name, value in net.state_dict().items())
    assert filters and all(id(parameter) in known for parameter in net.parameters())
    net.zero_grad()
    sum(m.mean() for m in net(torch.randn(1, 3, 32, 32))).backward()


def test_a_failed_load_gives_filters_their_size_back():
    donor, net = create_backbone("hornet_tiny_gf"), create_backbone("hornet_tiny_gf")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for module in donor.modules():
        if isinstance(module, GlobalFilter):
            module.resize((20, 11))
    state = donor.state_dict()
    del state["stem.0.weight"]
    with pytest.raises(UserError, match=r"stem\.0\.weight"):
        load_weights(net, state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tables_that_we_compute_are_compared_as_exactly_as_their_type_is(dtype):
    net = create_backbone("pvig_tiny")
    state, _ = convert.write_state("pvig_tiny", net.ARCHS["pvig_tiny"], net.state_dict(), "official")
    tables = [name for name in state if "relative_pos" in name]
    for name in tables:
        state[name] = state[name] + 7e-7 * (torch.rand_like(state[name]) * 2 - 1)  # as other constructions differ
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    assert load_weights(net, state).missing == []
    state[tables[-1]] = state[tables[-1]] + 0.05 * (torch.arange(state[tables[-1]].shape[-1]) == 3).to(dtype)
    for strict in (True, False):
        with pytest.raises(UserError, match=f"{tables[-1]} differs from the published construction"):
            load_weights(net, state, strict=strict)


@pytest.mark.parametrize("wrong", [torch.nn.Linear(2, 2), torch.nn.Sequential(create_backbone("van_b0"))])
def test_a_model_of_another_kind_is_named(wrong, b0):
    with pytest.raises(UserError, match=f"model is a {type(wrong).__name__}; allowed: "):
        load_weights(wrong, b0.state_dict())


def test_keys_that_are_no_names_are_left_out(b0):
    assert load_weights(create_backbone("van_b0"), {0: torch.ones(1), **b0.state_dict()}).missing == []


def test_a_head_for_other_classes_stays_and_is_reported(b0):
    donor = create_classifier("van_b0", num_classes=7)
    clf = create_classifier("van_b0", num_classes=5)
    before = clf.head.fc.weight.clone()
    with pytest.warns(UserWarning, match="head"):
        report = load_weights(clf, donor.state_dict())
    assert torch.equal(clf.head.fc.weight, before)
    assert report.missing == ["head.fc.weight", "head.fc.bias"] == report.unexpected
    assert torch.equal(clf.backbone.stem.conv.weight, donor.backbone.stem.conv.weight)


def test_loading_a_fused_net_raises(b0):
    net = create_backbone("van_b0").fuse()
    with pytest.raises(UserError, match="fused"):
        load_weights(net, b0.state_dict())


def test_saving_is_atomic(tmp_path):
    path = tmp_path / "w.pth"
    save_safely({"a": torch.ones(1)}, path)
    with pytest.raises(AttributeError):
        save_safely({"a": lambda: None}, path)
    assert read_checkpoint(path)["a"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local host for weights, and an empty hub cache."""
    (tmp_path / "www").mkdir()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv(CONSENT, "1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    handler.log_message = lambda *args: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield tmp_path / "www", f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_url_is_fetched_checked_and_kept(server, b0):
    import hashlib

    folder, url = server
    save_safely({"state_dict": b0.state_dict()}, folder / "w.pth")
    content = (folder / "w.pth").read_bytes()
    good = f"w-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / good).write_bytes(content)
    (folder / "w-00000000.pth").write_bytes(content)
    net = create_backbone("van_b0", pretrained=f"{url}/{good}")
    assert torch.equal(net.stem.conv.weight, b0.stem.conv.weight)
    (folder / good).unlink()
    create_backbone("van_b0", pretrained=f"{url}/{good}")  # out of the cache
    with pytest.raises(UserError, match=r"w-00000000\.pth"):
        create_backbone("van_b0", pretrained=f"{url}/w-00000000.pth")
    with pytest.raises(UserError, match=r"cannot download .*absent\.pth"):
        create_backbone("van_b0", pretrained=f"{url}/absent.pth")


def test_urls_with_the_same_file_name_are_different_files(server, b0):
    folder, url = server
    nets = {"a": b0, "b": create_backbone("van_b0")}
    for name, net in nets.items():
        (folder / name).mkdir()
        save_safely(net.state_dict(), folder / name / "run-20240501.pth")  # a date, not a hash
    for name, net in nets.items():
        loaded = create_backbone("van_b0", pretrained=f"{url}/{name}/run-20240501.pth")
        assert torch.equal(loaded.stem.conv.weight, net.stem.conv.weight)


def test_named_weights_try_their_mirrors_and_say_the_licence_once(server, b0, monkeypatch, capfd):
    folder, url = server
    save_safely(b0.state_dict(), folder / "mirror.pth")
    row = weights.WEIGHTS["van_b0.in1k"]._replace(urls=(f"{url}/gone.pth", f"{url}/mirror.pth"))
    monkeypatch.setitem(weights.WEIGHTS, "van_b0.in1k", row)
    fetch_first.cache_clear()
    for _ in range(2):
        create_backbone("van_b0", pretrained="van_b0.in1k")
    assert capfd.readouterr().err.count(row.terms.licence) == 1
    fetch_first.cache_clear()


def test_weights_table_names_known_archs():
    assert {name.split(".")[0] for name in weights.WEIGHTS} <= set(backbones.list_archs())
    for row in weights.WEIGHTS.values():
        assert row.urls or row.page
        assert all(url.startswith("https://") for url in (*row.urls, row.page) if url)
        assert row.terms.licence and row.terms.origin


def test_weights_that_only_a_browser_can_fetch_say_where():
    with pytest.raises(UserError, match=r"vvt_tiny\.in1k.*browser: https://.*give the file's path"):
        create_backbone("vvt_tiny", pretrained="vvt_tiny.in1k")


def test_import_needs_no_mm_package():
    """In a fresh interpreter, nothing of the mm stack or of the tasks comes along with the backbones."""
    code = (
        "import sys, json; started = set(sys.modules); import backbones; backbones.create_backbone('van_b0');"
        "print(json.dumps([m for m in sys.modules.keys() - started if m.split('.')[0] in "
        "('mmengine','mmcv','mmdet','mmseg','timm','classification','detection','segmentation','engine','mmcv_ops')]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == []


@pytest.mark.parametrize("source", [create_backbone("van_b0", out_indices=(0,)), None, False, 3, [], ""])
def test_a_source_of_another_kind_is_named(source):
    with pytest.raises(UserError, match=r"the source of weights is .*; allowed: True, a name") as caught:
        load_weights(create_backbone("van_b0", out_indices=(0,)), source)
    assert "\n" not in str(caught.value)


def test_true_stands_for_the_first_name_of_the_table(b0, tmp_path, monkeypatch):
    monkeypatch.setattr("backbones.weights.source.locate", lambda arch, name: tmp_path / f"{name}.pth")
    save_safely(b0.state_dict(), tmp_path / "van_b0.in1k.pth")
    net = create_backbone("van_b0")
    assert load_weights(net, True).missing == []
    assert torch.equal(net.stem.conv.weight, b0.stem.conv.weight)


@pytest.mark.parametrize("model", [None, "van_b0", 3])
def test_what_is_no_model_is_named(model, b0):
    with pytest.raises(UserError, match=f"model is {model!r}; allowed: a network of create_backbone"):
        load_weights(model, b0.state_dict())


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.bool(), "of type torch.bool; allowed: floating-point"),
        (lambda t: t.int(), "of type torch.int32; allowed: floating-point"),
        (lambda t: t.to(torch.complex64), "of type torch.complex64; allowed: floating-point"),
        (lambda t: t.to_sparse(), "torch.sparse_coo; allowed: a dense tensor"),
        (lambda t: t.to("meta"), "on the meta device and has no values"),
    ],
)
def test_tensors_without_real_values_are_named_and_nothing_is_loaded(change, words, strict, b0):
    net = create_backbone("van_b0")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = dict(b0.state_dict())
    for name in ("stages.1.norm.weight", "stages.2.norm.weight"):
        state[name] = change(state[name])
    with pytest.raises(UserError, match=rf"the state dict: tensor stages\.1\.norm\.weight is {words}"):
        load_weights(net, state, strict=strict)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_file_address_is_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "my weights.pth"
    for _ in range(2):
        donor = create_backbone("van_b0")
        save_safely(donor.state_dict(), path)
        net = create_backbone("van_b0", pretrained=path.as_uri())
        assert torch.equal(net.stem.conv.weight, donor.stem.conv.weight)
    assert not (tmp_path / "hub").exists()
    with pytest.raises(UserError, match=r"file://elsewhere/w\.pth; allowed: file:/// and an absolute path"):
        load_weights(net, "file://elsewhere/w.pth")


def test_the_cached_copy_of_a_url_without_a_hash_is_said(server, b0, capfd):
    folder, url = server
    save_safely(b0.state_dict(), folder / "latest.pth")
    create_backbone("van_b0", pretrained=f"{url}/latest.pth")
    assert "the copy" not in capfd.readouterr().err
    KNOWN_COPIES.clear()  # as in a new process
    create_backbone("van_b0", pretrained=f"{url}/latest.pth")
    assert capfd.readouterr().err.count(f"weights {url}/latest.pth: the copy in the cache is used; remove ") == 1


def test_only_structure_is_taken_from_a_description(tmp_path):
    donor = create_backbone("van_b0", norm_eps=1e-4, in_chans=4)
    own = weights.own_meta(donor, None, None)
    own["backbone"] |= {"frozen_stages": 2, "drop_path_rate": 0.3, "norm_eval": True, "pretrained": "x", "new": 1}
    net = create_backbone("van_b0", pretrained=saved(donor, own, tmp_path))
    assert net.arguments() == donor.arguments()
    assert (net.frozen_stages, net.norm_eval) == (-1, False) and all(p.requires_grad for p in net.parameters())
    assert net.stages[3].blocks[-1].drop_path.rate == 0


@pytest.mark.parametrize(
    ("name", "value"), [("in_chans", 10**7), ("in_chans", "3"), ("norm_eps", -1), ("norm_eps", "a")]
)
def test_a_damaged_description_is_one_line(name, value, tmp_path):
    donor = create_backbone("van_b0")
    own = weights.own_meta(donor, None, None)
    own["backbone"][name] = value
    with pytest.raises(UserError, match=f"{name} is {value!r}; allowed: .*; the description in the weights says so"):
        create_backbone("van_b0", pretrained=saved(donor, own, tmp_path))


def saved(net, own, folder):
    save_safely({"state_dict": net.state_dict(), "meta": {"ziggurat": own}}, folder / "own.pth")
    return folder / "own.pth"
