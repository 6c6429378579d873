"""ziggurat search: the query's features are those of the store, and what was found is printed, written and drawn."""

import csv
import json
import sys

import extract_features
import numpy as np
import pytest
import search_features
import torch
from helpers import run
from PIL import Image

from backbones import create_backbone
from backbones.store import FeatureStore
from backbones.store.search import search
from ziggurat.engine.search.queries import Part, cells_inside, vector_of
from ziggurat.engine.search.sheet import MISSING

SIZES = [(64, 64), (96, 64), (64, 96)]
QUIET = "note: the store is of random weights"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nine images, and stores of them: ``mean``, ``grid:2`` and ``maps``."""
    root = tmp_path_factory.mktemp("search")
    (root / "photos ä").mkdir()
    for i in range(9):
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZES[i % 3], 3), np.uint8)
        Image.fromarray(pixels).save(root / f"photos ä/{i}.png")
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    for name, options in (
        ("mean", ["--pool", "mean"]),
        ("grid", ["--pool", "grid:2"]),
        ("maps", ["--save-dtype", "fp16"]),
    ):
        argv = ["van_b0", "photos ä", "--form", "store", "--device", "cpu", "--workers", "0", "--stages", "1,3"]
        patch.setattr(sys, "argv", ["tool", *argv, "--out", name, *options])
        assert extract_features.main() is None
    patch.undo()
    return root


@pytest.fixture
def search_in(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def search_in(*argv):
        return run(search_features, ["--device", "cpu", *argv], monkeypatch, capsys)

    return search_in


@pytest.mark.parametrize(("store", "metric"), [("mean", "cosine"), ("grid", "euclidean"), ("maps", "cosine")])
def test_an_image_of_the_store_finds_itself(store, metric, folder, search_in, tmp_path):
    argv = ["photos ä/4.png", "photos ä/7.png", "--store", store, "--top", 20, "--metric", metric, "--stage", 1]
    status, out, err = search_in(*argv, "--out", tmp_path / "f.json", "--sheet", tmp_path / "f.png")
    assert status == 0 and err.startswith(QUIET) and len(err.splitlines()) == 1, err
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["stage"] == "stage1" and found["metric"] == metric
    opened = FeatureStore(folder / store)
    vectors = [opened[opened.find(name)]["stage1"].double() for name in ("photos ä/4.png", "photos ä/7.png")]
    vectors = [vector.flatten(1).mean(1) if vector.ndim > 1 else vector for vector in vectors]
    for query, some in zip(found["queries"], search(opened, torch.stack(vectors), "stage1", 20, metric), strict=True):
        assert [one["image"] for one in query["neighbours"]] == [one.image for one in some] and len(some) == 9
        scores = [one["cosine" if metric == "cosine" else "distance"] for one in query["neighbours"]]
        np.testing.assert_allclose(scores, [one.score for one in some], atol=1e-4)
        assert query["neighbours"][0]["image"] == query["query"]
        assert all(f"  {one.image}" in out for one in some)
    with Image.open(tmp_path / "f.png") as sheet:
        assert sheet.mode == "RGB" and sheet.width > 1000


@pytest.mark.parametrize(("store", "place"), [("grid", (72, 16)), ("maps", (84, 20))])
def test_a_place_finds_itself(store, place, search_in, tmp_path):
    """Of an image of 96x64 pixels, the grid's cells have 48x32 pixels, and those of stage 1 have 8x8."""
    argv = ["photos ä/4.png", "--store", store, "--stage", 1, "--top", 9, "--out", tmp_path / "f.csv"]
    status, out, err = search_in(*argv, "--at", 80, 23)
    assert status == 0 and "row  column" in out, err
    rows = list(csv.DictReader((tmp_path / "f.csv").open(encoding="utf-8")))
    assert len(rows) == 9 and rows[0]["image"] == "photos ä/4.png" and float(rows[0]["cosine"]) == pytest.approx(1)
    assert (float(rows[0]["row"]), float(rows[0]["column"])) == place
    status, out, err = search_in(*argv, "--box", 16, 80, 8, 8, "--overwrite")
    assert status == 0, err
    again = list(csv.DictReader((tmp_path / "f.csv").open(encoding="utf-8")))
    assert [row["image"] for row in again] == [row["image"] for row in rows]


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 64, (0, 8)), (0, 1, (0, 1)), (63, 1, (7, 8)), (8, 8, (1, 2)), (4, 9, (0, 2)), (5, 7, (1, 2)), (12, 1, (1, 2))],
)
def test_a_part_takes_the_cells_with_their_middle_in_it(start, length, expected):
    found = cells_inside(start, length, 64, 8)
    assert (found.start, found.stop) == expected
    middles = [i for i in range(8) if start <= 8 * i + 4 < start + length]
    assert list(range(8))[found] == (middles or [min(7, int((start + length / 2) / 8))])


def test_the_vector_of_a_part_is_the_mean_of_its_cells():
    features = torch.randn(3, 4, 6)
    expected = features[:, 1:3, 2:6].double().mean((1, 2)).numpy()
    np.testing.assert_allclose(vector_of(features, Part(16, 32, 32, 64, ""), (64, 96)), expected, rtol=1e-12)
    np.testing.assert_allclose(vector_of(features, None, (64, 96)), features.double().mean((1, 2)).numpy(), rtol=1e-12)


def test_images_that_cannot_be_read_are_skipped(search_in, folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    status, out, err = search_in("photos ä/1.png", tmp_path / "bad.png", "--store", "mean", "--top", 1)
    assert status == 1 and "photos ä/1.png" in out and "\nskipped: " in err and str(tmp_path / "bad.png") in err, err
    status, out, err = search_in(tmp_path / "bad.png", "--store", "mean")
    assert status == 2 and err.splitlines()[-1].startswith("error: ")


def test_a_neighbour_that_is_gone_is_an_empty_tile(search_in, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the store's names count from the folder above
    argv = [folder / "photos ä/1.png", "--store", folder / "mean", "--top", 2, "--sheet", tmp_path / "f.png"]
    assert search_in(*argv)[0] == 0
    pixels = np.asarray(Image.open(tmp_path / "f.png")).reshape(-1, 3)
    assert (pixels == MISSING).all(1).sum() > 2 * 200 * 200


def test_weights_of_another_content_are_refused(search_in, folder, tmp_path, monkeypatch, capsys):
    for seed, name in ((1, "a.pth"), (2, "b.pth")):
        torch.manual_seed(seed)
        torch.save(create_backbone("van_b0").state_dict(), tmp_path / name)
    argv = ["van_b0", folder / "photos ä", "--pretrained", tmp_path / "a.pth", "--form", "store", "--pool", "mean"]
    status, _, err = run(extract_features, [*argv, "--out", tmp_path / "s", "--device", "cpu"], monkeypatch, capsys)
    assert status == 0, err
    query = ["photos ä/1.png", "--store", tmp_path / "s", "--top", 1]
    assert search_in(*query)[0] == 0
    (tmp_path / "a.pth").rename(tmp_path / "moved.pth")
    status, _, err = search_in(*query)
    assert status == 2 and "a.pth" in err and err.endswith("allowed: --weights FILE\n") and len(err.splitlines()) == 1
    assert search_in(*query, "--weights", tmp_path / "moved.pth")[0] == 0
    status, _, err = search_in(*query, "--weights", tmp_path / "b.pth")
    assert status == 2 and "allowed: --weights with the same file" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["absent.png", "--store", "mean"], "no such image: absent.png"),
        (["photos ä/1.png", "--store", "absent"], "no store of features: absent has no meta.json"),
        (["photos ä/1.png", "--store", "mean", "--at", "1", "1"], "one vector of each image (pool mean)"),
        (["photos ä/1.png", "--store", "maps", "--at", "96", "1"], "--at 96 1 is outside of photos ä/1.png"),
        (["photos ä/1.png", "--store", "maps", "--at", "-1", "1"], "allowed: pixels, integers from 0"),
        (["photos ä/1.png", "--store", "maps", "--box", "1", "1", "0", "4"], "--box 1 1 0 4 is empty"),
        (["photos ä/1.png", "--store", "maps", "--box", "1", "1", "64", "4"], "--box 1 1 64 4 is outside"),
        (["photos ä/1.png", "--store", "maps", "--box", "1", "1", "4", "4", "--at", "1", "1"], "allowed: one of them"),
        (
            ["photos ä/1.png", "--store", "maps", "--at", "1", "1", "--index", "faiss"],
            "allowed with --at and --box: exact",
        ),
        (["photos ä/1.png", "--store", "mean", "--metric", "dot"], "choose from 'cosine', 'euclidean'"),
        (["photos ä/1.png", "--store", "mean", "--stage", "2"], "unknown stage 'stage2'; allowed: stage3, stage1"),
        (["photos ä/1.png", "--store", "mean", "--top", "0"], "allowed: integers from 1"),
        (["photos ä/1.png", "--store", "mean", "--out", "f.txt"], "the suffix .json, .csv"),
        (["photos ä/1.png", "--store", "mean", "--sheet", "photos ä/1.png"], "is there already; allowed: another file"),
        (
            ["photos ä/1.png", "--store", "mean", "--sheet", "photos ä/1.png", "--overwrite"],
            "photos ä/1.png is there already, and no search has written it",
        ),
        (
            ["photos ä/1.png", "--store", "mean", "--out", "mean/meta.json", "--overwrite"],
            "mean/meta.json is there already, and no search has written it",
        ),
        (["photos ä/1.png", "--store", "mean", "--out", "mean/new.csv"], "mean/new.csv is in the store mean; allowed"),
        (["photos ä/1.png", "--store", "mean", "--out", "photos ä/1.png/x.json"], "--out photos ä/1.png: File exists"),
        (
            ["photos ä/1.png", "--store", "mean", "--index", "faiss"],
            "--index faiss needs faiss, which is not installed",
        ),
    ],
)
def test_mistakes_are_one_line(argv, words, search_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    status, _, err = search_in(*argv)
    lines = [line for line in err.splitlines() if not line.startswith(QUIET)]
    assert status == 2 and words in lines[-1] and len(lines) == 1, err


def test_a_part_outside_of_one_query_skips_that_query(search_in):
    status, out, err = search_in("photos ä/1.png", "photos ä/3.png", "--store", "maps", "--at", 80, 2)
    assert status == 1 and "skipped: --at 80 2 is outside of photos ä/3.png" in err
    assert "photos ä/1.png\n" in out and "photos ä/3.png\n  rank" not in out


@pytest.mark.parametrize("name", ["f.json", "f.csv"])
def test_a_search_replaces_files_of_its_own(name, search_in, tmp_path):
    argv = ["photos ä/4.png", "--store", "mean", "--top", 3, "--out", tmp_path / name, "--sheet", tmp_path / "f.png"]
    assert search_in(*argv)[0] == 0
    status, _, err = search_in(*argv)
    assert status == 2 and "is there already; allowed" in err
    assert search_in(*argv, "--overwrite")[0] == 0


def test_images_that_cannot_be_drawn_are_counted(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where the names of the store lead nowhere
    argv = [folder / "photos ä/4.png", "--store", folder / "mean", "--device", "cpu", "--sheet", "f.png", "--top", 3]
    status, _, err = run(search_features, argv, monkeypatch, capsys)
    assert status == 0 and "note: 3 images of the sheet cannot be read from here" in err
