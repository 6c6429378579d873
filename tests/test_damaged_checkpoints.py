"""A damaged checkpoint is noticed, named, and passed over for the last good one. A save stops no training step."""

import os
import random
import threading
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import verify_checkpoint
from helpers import run

from backbones import UserError, create_backbone
from backbones.errors import Notice
from backbones.weights import own_meta, read_checkpoint, save_safely
from backbones.weights.digest import sha256_of_content
from ziggurat.engine.saving import Writer, copied
from ziggurat.engine.work_dir import WorkDir

SUFFIXES = (".pth", ".safetensors")


@pytest.fixture
def content(tiny):
    net = tiny("vvt_tiny")
    meta = {"epoch": 1, "iter": 20, "ziggurat": own_meta(net, [0.5] * 3, [0.5] * 3)}
    run = {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}, "message_hub": {"runtime_info": {"lr": 1e-3}}}
    return {"state_dict": {"w": torch.randn(50, 40), "half": torch.randn(9).bfloat16()}, "meta": meta, **run}


def save(content, path):
    save_safely(content if path.suffix == ".pth" else {**content["state_dict"], "meta": content["meta"]}, path)


def flipped(data, position, bit):
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_flipped_bit_gives_other_content(content, tmp_path, suffix):
    """A bit that no reader looks at, as in a zip archive's dates, may be another."""
    path, rng = tmp_path / f"good{suffix}", random.Random(0)
    save(content, path)
    data, expected = path.read_bytes(), sha256_of_content(read_checkpoint(path))
    refused = 0
    for _ in range(200):
        path.write_bytes(flipped(data, rng.randrange(len(data)), rng.randrange(8)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Notice)
                assert sha256_of_content(read_checkpoint(path)) == expected
        except (UserError, Notice) as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 150


def test_a_file_that_declares_more_than_it_holds_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10_000_000))
    with pytest.raises(UserError, match="said to hold more bytes than it has"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_a_lack_of_memory_is_one_line(content, tmp_path, monkeypatch):
    def load(*_, **__):
        raise MemoryError

    save(content, tmp_path / "own.pth")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(UserError, match=r"own\.pth \(it declares more than the memory holds\)"):
        read_checkpoint(tmp_path / "own.pth")


def test_a_change_is_told_and_taken_and_a_removal_is_no_change(content, tmp_path):
    save(content, tmp_path / "own.pth")
    stored = torch.load(tmp_path / "own.pth", weights_only=True)
    torch.save({**stored, "state_dict": {"w": torch.zeros(2)}}, tmp_path / "changed.pth")
    with pytest.warns(Notice, match=r"changed\.pth was changed after it was written: state_dict"):
        assert read_checkpoint(tmp_path / "changed.pth")["state_dict"]["w"].shape == (2,)
    torch.save({name: part for name, part in stored.items() if name != "optimizer"}, tmp_path / "smaller.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "optimizer" not in read_checkpoint(tmp_path / "smaller.pth")


def test_a_checksum_tells_types_names_shapes_and_order():
    values = [0, False, 0.0, "0", b"0", None, [0], (0,), {"a": 0}, {"b": 0}, [[], 0], [[0]], torch.zeros(1)]
    values += [torch.zeros(1, 1), torch.zeros(1).double(), torch.zeros(()), {"a": 0, "b": 1}, {"b": 1, "a": 0}]
    assert len({sha256_of_content(value) for value in values}) == len(values)
    square = torch.randn(3, 3)
    assert sha256_of_content(square.T) == sha256_of_content(square.T.contiguous()) != sha256_of_content(square)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_tool_names_what_is_bad(content, tmp_path, monkeypatch, capsys, suffix):
    save(content, tmp_path / f"a{suffix}")
    status, out, _ = run(verify_checkpoint, [tmp_path], monkeypatch, capsys)
    assert (status, out) == (0, f"good  {tmp_path / f'a{suffix}'}\n")
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"b{suffix}").write_bytes(flipped(data, len(data) // 2, 3))
    torch.save({"w": torch.zeros(1)}, tmp_path / "c.pth")
    status, out, _ = run(verify_checkpoint, [tmp_path], monkeypatch, capsys)
    good, bad, foreign = out.splitlines()
    assert status == 1 and good.startswith("good") and bad.startswith("bad") and f"b{suffix} is damaged" in bad
    assert foreign == f"good  {tmp_path / 'c.pth'}  (no SHA-256: not written by this project)"
    for missing, words in (
        (tmp_path / "no.pth", "no such file or folder"),
        (Path(__file__).parent, "no checkpoint in"),
    ):
        status, _, err = run(verify_checkpoint, [missing], monkeypatch, capsys)
        assert status == 2 and words in err and err.count("\n") == 1


def test_the_newest_good_checkpoint_goes_on(content, tmp_path, capsys):
    for age, name in enumerate(("best_top1.pth", "iter_30.pth", "iter_20.pth", "iter_10.pth")):
        save(content, tmp_path / name)
        data = (tmp_path / name).read_bytes()
        if name == "iter_30.pth":
            (tmp_path / name).write_bytes(flipped(data, len(data) // 2, 0))
        if name == "iter_20.pth":
            (tmp_path / name).write_bytes(data[: len(data) // 2])
        stamp = 1_000_000_000 - age
        os.utime(tmp_path / name, (stamp, stamp))
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_40.pth"))
    assert WorkDir(tmp_path).last_checkpoint() == tmp_path / "iter_10.pth"
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.endswith("the run goes on from iter_10.pth\n")
    assert all(words in err for words in ("iter_40.pth is gone", "iter_30.pth is damaged", "iter_20.pth"))
    (tmp_path / "iter_10.pth").unlink()
    with pytest.raises(UserError, match=r"nothing to resume in .*iter_30\.pth is damaged"):
        WorkDir(tmp_path).last_checkpoint()


def test_later_steps_do_not_change_what_is_written(tmp_path):
    weight = torch.ones(3)
    tied = {"a": weight, "b": weight, "c": [weight[:2], 7]}
    gate, done = threading.Event(), []
    with Writer() as writer:
        writer.submit(gate.wait)
        writer.submit(torch.save, copied(tied), tmp_path / "own.pth")
        writer.submit(done.append, 1)
        weight.zero_()
        assert not done and not writer.has_failed()
        gate.set()
    stored = torch.load(tmp_path / "own.pth")
    assert done and all(bool((value == 1).all()) for value in (stored["a"], stored["b"], stored["c"][0]))
    assert stored["a"].data_ptr() == stored["b"].data_ptr()  # tied weights are written once


def test_a_failed_write_stops_what_follows_and_is_one_line(tmp_path):
    done = []
    message = r"gone/own\.pth could not be written: No such file or directory"
    with pytest.raises(UserError, match=message), Writer() as writer:
        writer.submit((tmp_path / "gone/own.pth").touch)
        writer.submit(done.append, "a record or a removal")
    assert not done


def test_a_network_file_still_loads_elsewhere(tmp_path):
    """Checksums are in meta and in a safetensors file's metadata, where other readers do not look."""
    from safetensors.torch import load_file

    net = create_backbone("van_b0")
    save_safely(net.state_dict(), tmp_path / "bare.safetensors")
    save_safely(net.state_dict(), tmp_path / "bare.pth")
    for stored in (load_file(tmp_path / "bare.safetensors"), torch.load(tmp_path / "bare.pth", weights_only=True)):
        assert stored.keys() == net.state_dict().keys()
