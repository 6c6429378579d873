"""A store gives back what was added: each image once, however often the writer was killed. A damaged one is named."""

import json
import os
import signal
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from backbones import UserError
from backbones.store import FeatureStore, StoreWriter
from backbones.store.lock import leave_locks
from backbones.store.writer import DTYPES

SETTINGS = {"arch": "van_b0", "stages": {"stage1": {"channels": 3}, "stage3": {"channels": 5}}}
SIZES = [(64, 96), (32, 32), (64, 96)]


def settings(dense=False, dtype="fp32", **changes):
    return SETTINGS | {"pool": None if dense else "mean", "dtype": dtype} | changes


def images(count, dense=False):
    """(name, size, features) of images; every fourth cannot be read."""
    numbers = torch.Generator().manual_seed(0)
    for i in range(count):
        size = SIZES[i % len(SIZES)]
        shapes = [[size[0] // s, size[1] // s] if dense else [] for s in (8, 32)]
        stages = {f"stage{n}": torch.randn(c, *shape, generator=numbers) for n, c, shape in zip((1, 3), (3, 5), shapes)}
        yield f"photos/ä {i}.png", size, None if i % 4 == 3 else stages


def add_all(store, count, dense=False, dtype="fp32", **how):
    how = {"shard_rows": 3} | how
    with StoreWriter(store, settings(dense, dtype), dense, **how) as writer:
        for name, size, features in images(count, dense):
            if name in writer.done:
                continue
            if features is None:
                writer.add_unreadable(name, "cut off")
            else:
                writer.add(name, size, features)
    return FeatureStore(store)


def names_in(store):
    """Every name of the index, as often as it is there."""
    import pyarrow.parquet as pq

    return sorted(
        name for part in (store / "index").glob("*.parquet") for name in pq.read_table(part)["image"].to_pylist()
    )


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_added_is_read(dense, dtype, tmp_path):
    store = add_all(tmp_path / "s", 11, dense, dtype)
    expected = {name: (size, stages) for name, size, stages in images(11, dense)}
    assert set(store.unreadable) == {name for name, (_, stages) in expected.items() if stages is None}
    assert len(store) == 11 - len(store.unreadable) and set(store.unreadable.values()) == {"cut off"}
    for i, item in enumerate(store):
        size, stages = expected[item["name"]]
        assert item["size"] == size and store.find(item["name"]) == i
        for stage, values in stages.items():
            assert torch.equal(item[stage], values.to(DTYPES[dtype]))
    store.verify()


def test_a_shard_is_a_file_that_others_read(tmp_path):
    """The documented layout, read with safetensors and pyarrow alone."""
    import pyarrow.parquet as pq

    add_all(tmp_path / "s", 3, dense=True)
    rows = pq.read_table(tmp_path / "s/index/shard_000_00000.parquet").to_pylist()
    shard = load_file(tmp_path / "s/shards/shard_000_00000.safetensors")
    assert {name: tuple(value.shape) for name, value in shard.items()} == {
        "stage1.64x96": (2, 3, 8, 12),
        "stage3.64x96": (2, 5, 2, 3),
        "stage1.32x32": (1, 3, 4, 4),
        "stage3.32x32": (1, 5, 1, 1),
    }
    assert [row["row"] for row in rows] == [0, 0, 1] and rows[2]["stage1_height"] == 8
    assert [(row["height"], row["width"]) for row in rows] == SIZES


def killed_at(step, work):
    """Runs ``work`` in a process that kill -9 ends before a step of writing. Whether it was killed."""
    child = os.fork()
    if not child:
        count = 0

        def stepping(real):
            def one(*args, **kwargs):
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return one

        try:
            with (
                mock.patch("os.fsync", stepping(os.fsync)),
                mock.patch("os.replace", stepping(os.replace)),
                mock.patch("backbones.weights.files.save_file", stepping(sys.modules["safetensors.torch"].save_file)),
            ):
                work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_no_row_is_lost_or_doubled_by_a_kill_at_any_step(tmp_path):
    expected = {item["name"]: item["stage1"] for item in add_all(tmp_path / "whole", 7)}
    step = 1
    while killed_at(step, lambda: add_all(tmp_path / f"{step}", 7)):  # noqa: B023  called at once
        store = add_all(tmp_path / f"{step}", 7)
        assert names_in(tmp_path / f"{step}") == names_in(tmp_path / "whole"), step
        assert all(torch.equal(item["stage1"], expected[item["name"]]) for item in store)
        left = {path.stem for path in (tmp_path / f"{step}/shards").iterdir()}
        assert left == {path.stem for path in (tmp_path / f"{step}/index").iterdir()}
        step += 1
    assert step > 20  # the steps of four shards


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "van_b1"}, "arch 'van_b0', and this run has 'van_b1'"),
        ({"dtype": "fp16"}, "dtype 'fp32', and this run has 'fp16'"),
        ({"pool": "gem"}, "pool 'mean', and this run has 'gem'"),
        ({"stages": {"stage3": {"channels": 5}}}, "stages stage1, stage3, and this run has stage3"),
        ({"short_side": 64}, "short_side None, and this run has 64"),
    ],
)
def test_another_setting_is_named(changes, words, tmp_path):
    add_all(tmp_path, 2)
    with pytest.raises(UserError, match=f"{words}; allowed: another --out, or --overwrite"):
        StoreWriter(tmp_path, settings() | changes)
    assert len(FeatureStore(tmp_path)) == 2
    with StoreWriter(tmp_path, settings() | changes, overwrite=True):
        pass
    assert len(FeatureStore(tmp_path)) == 0


def test_a_store_without_features_takes_any_setting(tmp_path):
    with StoreWriter(tmp_path, settings()):
        pass
    assert len(add_all(tmp_path, 2, dtype="fp16")) == 2


def test_what_is_no_store_is_never_removed(tmp_path):
    (tmp_path / "meta.json").write_text('{"mine": 1}')
    for overwrite in (False, True):
        with pytest.raises(UserError, match="allowed: the file of a store of features"):
            StoreWriter(tmp_path, settings(), overwrite=overwrite)
    assert (tmp_path / "meta.json").read_text() == '{"mine": 1}'


def test_one_run_writes_at_a_time(tmp_path):
    first = StoreWriter(tmp_path, settings(), rank=0, run="a")
    with pytest.raises(UserError, match="in use by another run"):
        StoreWriter(tmp_path, settings(), rank=0, run="b")
    second = StoreWriter(tmp_path, settings(), rank=1, run="a", overwrite=True)
    for i, writer in enumerate((first, second)):
        writer.add(f"{i}", (64, 64), {"stage1": torch.ones(3), "stage3": torch.ones(5)})
        with writer:
            pass
    # A process of the same run that comes late removes nothing.
    with StoreWriter(tmp_path, settings(), rank=2, run="a", overwrite=True):
        pass
    assert sorted(item["name"] for item in FeatureStore(tmp_path)) == ["0", "1"]
    leave_locks()


def test_one_process_takes_up_the_shards_of_another_rank(tmp_path):
    """A process of rank 4 is killed after its first shard. Another one of the run, which is older, does its work."""
    own = {name: {"stage1": torch.full((3,), float(i)), "stage3": torch.ones(5)} for i, name in enumerate("abcd")}
    with StoreWriter(tmp_path, settings(), run="a") as older:
        with StoreWriter(tmp_path, settings(), rank=4, run="a") as killed:
            killed.add("b", (64, 64), own["b"])
            killed.add_unreadable("x", "cut off")
        older.add("a", (64, 64), own["a"])
        older.commit()
        older.turn_to(4)
        assert {"a", "b"} <= older.done and older.unreadable == {"x"}
        for name in "bc":
            older.add(name, (64, 64), own[name])
        older.add_unreadable("x", "cut off")
        older.commit()
        older.turn_to(0)
        older.add("d", (64, 64), own["d"])
    assert names_in(tmp_path) == ["a", "b", "c", "d", "x"]
    names = sorted(path.stem for path in (tmp_path / "index").iterdir())
    assert names == ["shard_000_00000", "shard_000_00001", "shard_004_00000", "shard_004_00001"]
    assert all(torch.equal(item["stage1"], own[item["name"]]["stage1"]) for item in FeatureStore(tmp_path))


def test_an_image_that_was_unreadable_may_come_later(tmp_path):
    for _ in range(2):
        with StoreWriter(tmp_path, settings()) as writer:
            writer.add_unreadable("a", "cut off")
    assert names_in(tmp_path) == ["a"]
    with StoreWriter(tmp_path, settings()) as writer:
        assert "a" in writer.unreadable and "a" not in writer.done
        writer.add("a", (64, 64), {"stage1": torch.ones(3), "stage3": torch.ones(5)})
    store = FeatureStore(tmp_path)
    assert store.find("a") == 0 and not store.unreadable


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s: os.truncate(s / "shards/shard_000_00000.safetensors", 100), "has 100 bytes of"),
        (lambda s: (s / "shards/shard_000_00000.safetensors").unlink(), "No such file"),
        (lambda s: os.truncate(s / "index/shard_000_00000.parquet", 100), r"index .*shard_000_00000\.parquet"),
        (lambda s: flip(s / "shards/shard_000_00000.safetensors"), "has other bytes than were written"),
        (lambda s: (s / "meta.json").write_text("{"), r"meta\.json is damaged"),
        (lambda s: (s / "meta.json").unlink(), r"no store of features: .* has no meta\.json"),
        (lambda s: (s / "meta.json").write_text('{"format": 9}'), "format 9; allowed: 1"),
    ],
)
def test_a_damaged_store_is_one_line(damage, words, tmp_path):
    add_all(tmp_path, 4)
    damage(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        FeatureStore(tmp_path).verify()
    assert "\n" not in str(caught.value)


def test_what_the_message_about_damage_says_repairs_it(tmp_path):
    expected = {item["name"]: item["stage1"] for item in add_all(tmp_path, 7)}
    os.truncate(tmp_path / "shards/shard_000_00001.safetensors", 100)
    with pytest.raises(UserError, match="remove") as caught:
        FeatureStore(tmp_path)
    os.remove(str(caught.value).split("remove ")[1].split(" and give")[0])
    store = add_all(tmp_path, 7)
    assert {item["name"] for item in store} == set(expected)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_files_hold_the_same(dense, dtype, tmp_path):
    store = add_all(tmp_path / "s", 9, dense, dtype)
    written = store.to_npy(tmp_path / "out")
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
    seen = 0
    for path in written:
        if path.suffix == ".json":
            end = path.name.removeprefix("images").removesuffix(".json")
            names = json.loads(path.read_text())
            for stage in store.stages:
                array = np.load(tmp_path / "out" / f"{stage}{end}.npy")
                assert array.dtype == (np.float16 if dtype == "fp16" else np.float32)
                for name, values in zip(names, array, strict=True):
                    np.testing.assert_array_equal(values, store[store.find(name)][stage].float().numpy())
            seen += len(names)
    assert seen == len(store)
    with pytest.raises(UserError, match="is there already"):
        store.to_npy(tmp_path / "out")


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_group_of_zarr_holds_the_same(dense, dtype, tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr", "3.1")
    monkeypatch.setattr("backbones.store.export.CHUNK_BYTES", 100)  # several chunks
    store = add_all(tmp_path / "s", 9, dense, dtype)
    group = zarr.open_group(store.to_zarr(tmp_path / "out.zarr"), mode="r")
    assert dict(group.attrs) == store.meta and group.metadata.zarr_format == 3
    seen = 0
    for key in group.array_keys():
        if key.startswith("images"):
            for stage in store.stages:
                array = group[stage + key.removeprefix("images")]
                assert array.dtype == (np.float16 if dtype == "fp16" else np.float32)
                for name, values in zip(group[key][:], array[:], strict=True):
                    np.testing.assert_array_equal(values, store[store.find(name)][stage].float().numpy())
            seen += len(group[key][:])
    assert seen == len(store)
    with pytest.raises(UserError, match="is there already"):
        store.to_zarr(tmp_path / "out.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zarr", "s"]


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(
        UserError, match=r"an export to zarr needs zarr, which is not installed; pip install 'ziggurat-vision\[zarr\]'"
    ):
        add_all(tmp_path / "s", 1).to_zarr(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_store_is_a_data_set(tmp_path):
    store = add_all(tmp_path, 9)
    batches = list(DataLoader(store, batch_size=4, num_workers=1))
    assert [name for batch in batches for name in batch["name"]] == store.names()
    joined = torch.cat([batch["stage3"] for batch in batches])
    assert torch.equal(joined, torch.stack([item["stage3"] for item in store]))
    assert torch.equal(joined, torch.cat([block.features["stage3"] for block in store.blocks()]))


def test_positions_and_names_outside_are_named(tmp_path):
    store = add_all(tmp_path, 4)
    assert store[-1]["name"] == store[len(store) - 1]["name"] == store[np.int64(-1)]["name"]
    for index in (3, -4, None, "0", True, 1.0):
        with pytest.raises(IndexError, match=r"index is .*; allowed: integers from -3 to 2"):
            store[index]
    with pytest.raises(UserError, match="x is none of the 3 images"):
        store.find("x")
    with pytest.raises(UserError, match="has no features: cut off"):
        store.find("photos/ä 3.png")
