"""ziggurat features --form store: each image's features once, as the extractor gives them, whoever shares the work."""

import io
import sys
import tarfile

import extract_features
import numpy as np
import pytest
import torch
from helpers import SMALL, run
from PIL import Image
from safetensors import SafetensorError

from backbones import FeatureExtractor, UserError
from backbones.pooling import pool_of
from backbones.reading import READING
from backbones.store import FeatureStore, StoreWriter
from backbones.store.writer import DTYPES
from ziggurat.engine.features import loading
from ziggurat.engine.features.budget import Budget, budget_of, check_space, counted, sized
from ziggurat.engine.features.loading import Unreadable, batches, default_size
from ziggurat.engine.features.processes import Process
from ziggurat.engine.features.run import settings_of, write_features
from ziggurat.engine.features.sources import FileImage, image_named

SIZES = [(64, 64), (96, 64), (64, 64), (64, 64), (96, 64)]
TOOL = ["van_b0", "--form", "store", "--device", "cpu", "--workers", 0]


def photograph(size, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five images of two sizes."""
    root = tmp_path_factory.mktemp("images")
    for i, size in enumerate(SIZES):
        photograph(size, i).save(root / f"ä {i}.png")
    return root


def stored(extractor, folder, out, pool=None, dtype="fp32", **how):
    """The store of a folder's images."""
    found = [FileImage(str(path), str(path)) for path in sorted(folder.iterdir())]
    with StoreWriter(out, settings_of(extractor, None, pool, dtype), pool is None, shard_rows=3) as writer:
        counts = write_features(extractor, found, writer, pool, **how)
    assert counts.written == len(found)
    return FeatureStore(out)


@pytest.mark.numeric
@pytest.mark.parametrize("arch", SMALL)
def test_features_are_those_of_the_extractor(arch, folder, tmp_path):
    torch.manual_seed(0)
    extractor = FeatureExtractor(arch, (0, 3))
    store = stored(extractor, folder, tmp_path, dtype="bf16", batch_size=2)
    assert len(store) == len(SIZES)
    for item in store:
        expected = extractor(item["name"])
        assert item["size"] == expected.image_sizes[0]
        for stage, level in zip(store.stages, expected, strict=True):
            assert item[stage].dtype == torch.bfloat16
            unit = torch.finfo(torch.bfloat16).eps
            torch.testing.assert_close(item[stage].float(), level[0], rtol=unit, atol=1e-4 * float(level.abs().max()))


@pytest.mark.numeric
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", ["mean", "gem", "grid:2"])
def test_pooled_features_are_those_of_numpy(pool, dtype, folder, tmp_path):
    extractor = FeatureExtractor("van_b0", (1, 3), short_side=64)
    store = stored(extractor, folder, tmp_path, pool, dtype, workers=1)
    for item in store:
        for stage, level in zip(store.stages, extractor(item["name"]), strict=True):
            values = level[0].double().numpy()
            if pool == "grid:2":
                height, width = (side // 2 for side in values.shape[1:])
                if values.shape[1] % 2 or values.shape[2] % 2:
                    continue
                expected = values.reshape(-1, 2, height, 2, width).mean(axis=(2, 4))
            elif pool == "gem":
                expected = (np.maximum(values, 1e-6) ** 3).mean(axis=(1, 2)) ** (1 / 3)
            else:
                expected = values.mean(axis=(1, 2))
            unit = torch.finfo(DTYPES[dtype]).eps
            np.testing.assert_allclose(item[stage].float().numpy(), expected, rtol=unit, atol=1e-4)


@pytest.mark.parametrize("pool", ["grid:0", "grid:1000", "grid", "max", "", None, 3])
def test_another_pooling_is_named(pool):
    with pytest.raises(UserError, match=r"pool is .*; allowed: mean, gem, grid:K with K from 1 to 999"):
        pool_of(pool)


@pytest.mark.parametrize("limit", [1, 10**4, 10**9])
def test_batches_have_each_image_once_and_one_size(limit):
    sizes = [(8, 8 * (1 + i % 7)) for i in range(60)]
    items = [(i, "cut off" if i % 9 == 4 else torch.full((3, *size), i % 256)) for i, size in enumerate(sizes)]
    seen, held, taken = [], 0, 0

    def counting():
        nonlocal held
        for number, pixels in items:
            assert held - taken <= limit
            held += 0 if isinstance(pixels, str) else pixels.nbytes
            yield number, pixels

    for batch in batches(counting(), lambda height, width: 4, limit):
        if isinstance(batch, Unreadable):
            seen.append(batch.number)
            assert batch.reason == "cut off"
            continue
        assert batch.pixels[:, 0, 0, 0].tolist() == batch.numbers and len(batch.numbers) <= 4
        taken += batch.pixels.nbytes
        seen += batch.numbers
    assert sorted(seen) == list(range(60))


def test_a_batch_of_large_images_is_smaller():
    assert [default_size(side, side) for side in (64, 512, 1024, 10_000)] == [32, 32, 8, 1]


def add(folder, name="x.png", size=(64, 64)):
    photograph(size, 7).save(folder / name)
    return folder / name


def test_the_tool_goes_on_where_it_stopped(folder, tmp_path, monkeypatch, capsys):
    own = tmp_path / "own folder"
    own.mkdir()
    for path in folder.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    (own / "bad.png").write_bytes(b"\x89PNG")
    photograph((64, 20), 0).save(own / "small.png")
    argv = [*TOOL, own, "--out", tmp_path / "s", "--pool", "mean", "--stages", "2,3", "--shard-size", 2]
    status, out, err = run(extract_features, argv, monkeypatch, capsys)
    assert status == 0 and "7 images x 2 stages in fp32 = about" in out and "chosen: pooled (mean)" in out
    assert "5 images written, 2 could not be read" in out and "'reason'" in err
    store = FeatureStore(tmp_path / "s")
    assert store.stages == ["stage2", "stage3"] and store[0]["stage3"].shape == (256,)
    assert {name.rsplit("/")[-1] for name in store.unreadable} == {"bad.png", "small.png"}
    assert "64x20 pixels; allowed: 32x32" in store.unreadable[str(own / "small.png")]
    add(own, "bad.png")  # it can be read now
    add(own, "new.png")
    status, out, err = run(extract_features, argv, monkeypatch, capsys)
    assert status == 0 and "5 of 8 images are in" in out and "2 images written, 1 could not be read" in out
    store = FeatureStore(tmp_path / "s")
    assert sorted(store.names()) == sorted(str(path) for path in own.iterdir() if path.name != "small.png")
    assert torch.equal(
        store[store.find(str(own / "new.png"))]["stage3"], store[store.find(str(own / "bad.png"))]["stage3"]
    )
    for option, words in (
        (["--stages", 3], "stages stage2, stage3, and this run has stage3"),
        (["--save-dtype", "fp16"], "dtype 'fp32'"),
    ):
        status, out, err = run(extract_features, [*argv, *option], monkeypatch, capsys)
        assert status == 2 and err.startswith("note: without") and words in err.splitlines()[-1]
    assert len(FeatureStore(tmp_path / "s")) == 7
    status, out, err = run(extract_features, [*argv, "--stages", 3, "--overwrite"], monkeypatch, capsys)
    assert status == 0 and len(FeatureStore(tmp_path / "s")) == 7 and FeatureStore(tmp_path / "s").stages == ["stage3"]


def test_processes_share_the_images(folder, tmp_path, monkeypatch, capsys):
    """A part by two processes, then the rest by three, which list the images on their own."""
    monkeypatch.setattr("ziggurat.engine.features.processes.end_with_parent", lambda: None)
    argv = [*TOOL, "--launcher", "pytorch", "--out", tmp_path / "s", "--pool", "mean", "--stages", 3]
    own = tmp_path / "own"
    own.mkdir()
    for i in range(12):
        add(own, f"{i}.png", (32, 32))

    def process(rank, count, port, monkeypatch):
        for name, value in (("RANK", rank), ("WORLD_SIZE", count), ("MASTER_PORT", port)):
            monkeypatch.setenv(name, str(value))
        return run(extract_features, [argv[0], own, *argv[1:]], monkeypatch, capsys)

    status, _, err = process(1, 2, 1, monkeypatch)
    assert status == 0, err
    half = len(FeatureStore(tmp_path / "s"))
    assert 0 < half < 12
    for rank in (2, 0, 1):
        status, out, err = process(rank, 3, 2, monkeypatch)
        assert status == 0 and f"process {rank} of 3: " in out, err
    store = FeatureStore(tmp_path / "s")
    assert len(store) == 12 and set(store.names()) == {str(path) for path in own.iterdir()}
    shares = [Process(rank, 3, "").share([FileImage(name, name) for name in store.names()]) for rank in range(3)]
    assert sorted(image.name for share in shares for image in share) == sorted(store.names()) and all(shares)


def test_tar_shards_and_parquet_files_give_what_the_files_give(folder, tmp_path, monkeypatch, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for i, content in enumerate(contents):
            for name, value in ((f"{i:04d}.png", content), (f"{i:04d}.cls", b"3")):
                info = tarfile.TarInfo(name)
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
    rows = [{"bytes": content, "path": None} for content in contents]
    pq.write_table(pa.table({"image": rows, "label": [1] * 5}), tmp_path / "p.parquet", row_group_size=2)
    (tmp_path / "saved").mkdir()
    schema = pa.table({"image": rows}).schema
    for i, new in enumerate((pa.ipc.new_stream, pa.ipc.new_file)):  # ``datasets`` writes streams
        with pa.OSFile(str(tmp_path / f"saved/data-{i}.arrow"), "w") as file, new(file, schema) as writer:
            for row in rows:
                writer.write_table(pa.table({"image": [row]}))
    (tmp_path / "saved/cache-1.arrow").write_bytes(b"computed by the library")
    given = [tmp_path / "train-0.tar", tmp_path / "p.parquet", tmp_path / "saved", folder]
    argv = [*TOOL, *given, "--out", tmp_path / "s", "--stages", 3]
    status, out, err = run(extract_features, argv, monkeypatch, capsys)
    assert status == 0 and "25 images written, 0 could not be read" in out, err
    store = FeatureStore(tmp_path / "s")
    for i, path in enumerate(sorted(folder.iterdir())):
        expected = store[store.find(str(path))]["stage3"]
        tables = [tmp_path / name / str(i) for name in ("p.parquet", "saved/data-0.arrow", "saved/data-1.arrow")]
        for name in (tmp_path / f"train-0.tar/{i:04d}.png", *tables):
            np.testing.assert_array_equal(image_named(str(name)).pixels(READING), np.asarray(Image.open(path)))
            torch.testing.assert_close(store[store.find(str(name))]["stage3"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["GOOD", "--pool", "mean"], "--pool is an option of --form store"),
        (["GOOD", "--form", "store", "--pca"], "--pca is an option of --form npz"),
        (["GOOD", "--launcher", "pytorch"], "several processes share the images of --form store only"),
        (["GOOD", "--form", "store", "--launcher", "pytorch"], "RANK and WORLD_SIZE are not set"),
        (["GOOD", "--form", "store", "--pool", "max"], "pool is 'max'; allowed: mean, gem, grid:K"),
        (["GOOD", "--form", "store", "--shard-size", "0"], "allowed: a number of images, or megabytes"),
        (["GOOD", "--form", "store", "--shard-size", "2GB"], "allowed: a number of images, or megabytes"),
        (["GOOD", "--form", "store", "--batch-size", "0"], "allowed: integers from 1"),
        (["GOOD", "--form", "store", "--workers", "-1"], "--workers"),
        (["GOOD", "--form", "store", "--stages", "a"], "allowed: numbers of stages"),
        (["EMPTY", "--form", "store"], "no images in"),
        (["GOOD", "x.tar.gz", "--form", "store"], "is compressed; allowed: plain .tar"),
        (["GOOD", "absent.tar", "--form", "store"], "no such shard: absent.tar"),
        (["GOOD", "absent.parquet", "--form", "store"], "no such file: absent.parquet"),
        (["CUT.tar", "--form", "store"], "CUT.tar"),
        (["CUT.parquet", "--form", "store"], "is no Parquet file"),
        (["CUT.arrow", "--form", "store"], "is no Arrow file"),
        (["GOOD", "absent.arrow", "--form", "store"], "no such file: absent.arrow"),
        (["GOOD", "--engine", "ray"], "--engine ray fills stores, and the form is npz; allowed: --form store"),
        (["GOOD", "--form", "store", "--ray-workers", "2"], "--ray-workers is an option of --engine ray"),
        (["GOOD", "--form", "store", "--engine", "ray", "--launcher", "pytorch"], "allowed: without a launcher"),
        (
            ["GOOD", "--form", "store", "--engine", "ray", "--device", "cpu"],
            "--engine ray needs ray, which is not installed; pip",
        ),
        (["GOOD", "--form", "store", "--out", "GOOD"], "--out"),
    ],
)
def test_mistakes_are_one_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr("ziggurat.engine.features.processes.end_with_parent", lambda: None)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "CUT.tar").write_bytes(b"x" * 700)
    (tmp_path / "CUT.parquet").write_bytes(b"x" * 700)
    (tmp_path / "CUT.arrow").write_bytes(b"x" * 700)
    monkeypatch.setitem(sys.modules, "ray", None)
    photograph((64, 64), 0).save(tmp_path / "GOOD", "PNG")
    status, _, err = run(extract_features, ["van_b0", *argv], monkeypatch, capsys)
    lines = [line for line in err.splitlines() if not line.startswith("note: without")]
    assert status == 2 and words in lines[0] and len(lines) == 1, err


def test_a_folder_without_permission_is_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ziggurat.engine.cli.os.access", lambda *_: False)  # root may write anywhere
    status, _, err = run(extract_features, [*TOOL, folder, "--out", tmp_path / "s"], monkeypatch, capsys)
    assert status == 2 and f"--out {tmp_path / 's'}: no permission to write there" in err


def test_a_value_that_the_type_cannot_hold_is_recorded(folder, tmp_path):
    extractor = FeatureExtractor("van_b0", (3,))
    real = extractor.net.forward
    extractor.net.forward = lambda x: tuple(level * (1e6 if x.shape[2] > 64 else 1) for level in real(x))
    paths = [FileImage(str(path), str(path)) for path in sorted(folder.iterdir())]
    with StoreWriter(tmp_path, settings_of(extractor, None, "mean", "fp16")) as writer:
        assert write_features(extractor, paths, writer, "mean") == (3, 2)
    store = FeatureStore(tmp_path)
    assert all("not finite in torch.float16" in reason for reason in store.unreadable.values())


@pytest.mark.parametrize("pool", [None, "mean", "grid:3"])
def test_the_budget_is_what_the_store_takes(pool, folder, tmp_path):
    """Of images whose sides the strides divide."""
    extractor = FeatureExtractor("van_b0", (1, 2, 3))
    images = [FileImage(str(path), str(path)) for path in sorted(folder.iterdir())]
    budget = budget_of(extractor, images, "fp16", pool)
    store = stored(extractor, folder, tmp_path, pool, "fp16")
    taken = sum(item[stage].nbytes for item in store for stage in store.stages)
    assert budget.chosen(pool) == pytest.approx(taken)


def test_the_budget_is_one_line():
    line = Budget(1_234_567, 3, 2.1e12, 5_400_000_000).line("fp16", "mean", 57 * 10**9)
    assert line.startswith(
        "1.23 M images x 3 stages in fp16 = about 2.1 TB dense, 5.4 GB pooled; chosen: pooled (mean)"
    )
    assert [counted(n) for n in (7, 9999, 12_345, 3 * 10**9)] == ["7", "9999", "12.3 k", "3 G"]
    assert [sized(n) for n in (0, 999, 1000, 2.5e15, 3e18)] == ["0 B", "999 B", "1 kB", "2.5 PB", "3000 PB"]


def test_features_that_do_not_fit_are_refused(folder, tmp_path, monkeypatch, capsys):
    check_space(tmp_path, 10, 10)
    monkeypatch.setattr(extract_features, "free_space", lambda _: 1000)
    status, _, err = run(extract_features, [*TOOL, folder, "--out", tmp_path / "s"], monkeypatch, capsys)
    assert status == 2 and "has 1 kB free, and features take" in err.splitlines()[-1]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    argv = [*TOOL, folder, "--out", tmp_path / "s", "--pool", "mean"]  # as the message proposes
    assert run(extract_features, argv, monkeypatch, capsys)[0] == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_left_to_do_the_second_time(workers, folder, tmp_path, monkeypatch, capsys):
    argv = ["van_b0", folder, folder, "--form", "store", "--device", "cpu", "--out", tmp_path, "--workers", workers]
    for written in (5, 0):
        status, out, err = run(extract_features, argv, monkeypatch, capsys)
        assert status == 0 and f"{written} images written" in out, err


def test_a_full_disk_is_one_line(folder, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    argv = [*TOOL, folder, "--out", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr("backbones.weights.files.save_file", full)
        status, _, err = run(extract_features, argv, monkeypatch, capsys)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("error: ") and last.endswith("00000.safetensors: No space left on device")
    assert run(extract_features, argv, monkeypatch, capsys)[0] == 0 and len(FeatureStore(tmp_path)) == 5


def test_workers_that_have_gone_are_one_line(folder, tmp_path, monkeypatch):
    def gone(*_, **__):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(loading, "DataLoader", gone)
    extractor = FeatureExtractor("van_b0", (3,))
    with pytest.raises(UserError, match="lower --workers; the same command then goes on"):
        stored(extractor, folder, tmp_path, "mean", workers=2)
