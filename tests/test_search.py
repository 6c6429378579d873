"""A search in a store finds what a plain sort of all scores finds, whatever the blocks. Ties have the store's order."""

import json

import numpy as np
import pytest
import torch

from backbones import UserError
from backbones.store import FeatureStore, StoreWriter
from backbones.store.search import METRICS

SIZES = [(64, 96), (64, 64)]


def filled(folder, rows, pool="mean", dtype="fp32", sizes=SIZES):
    """A store of the given arrays of one stage, in shards of 7."""
    settings = {"arch": "van_b0", "stages": {"stage3": {"channels": rows[0].shape[0]}}, "pool": pool, "dtype": dtype}
    with StoreWriter(folder, settings, pool is None, shard_rows=7) as writer:
        for i, row in enumerate(rows):
            writer.add(f"ä {i}.png", sizes[i % len(sizes)], {"stage3": torch.as_tensor(row)})
    return FeatureStore(folder)


def scores_of(rows, query, metric):
    """(N, ...) scores of arrays (N, C, ...) in float64, more is nearer: plain NumPy."""
    rows = np.moveaxis(np.asarray(rows, np.float64), 1, -1)
    query = np.asarray(query, np.float64)
    if metric == "euclidean":
        return -np.linalg.norm(rows - query, axis=-1)
    lengths = np.linalg.norm(rows, axis=-1) * np.linalg.norm(query)
    return np.divide(rows @ query, lengths, out=np.zeros(lengths.shape), where=lengths > 0)


def vectors(count=41, channels=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, channels)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1, 3, 7, None])
def test_the_neighbours_are_those_of_a_sort(metric, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("backbones.store.search.QUERIES", 2)  # several times for a block
    known, queries = vectors(), vectors(5, seed=1)
    known[5] = 0
    known[30] = known[11] = known[23] * np.float32(1)  # equal ones, in several shards
    queries[0], queries[1] = known[11], 0
    store = filled(tmp_path, known)
    found = store.search(queries, 12, metric=metric, rows=rows)
    for query, some in zip(queries, found, strict=True):
        scores = scores_of(known, query, metric)
        if metric == "cosine" and not query.any():
            scores[:] = 0
        expected = np.argsort(-np.round(scores, 12), kind="stable")[:12]
        assert [one.position for one in some] == expected.tolist()
        assert [one.image for one in some] == [f"ä {i}.png" for i in expected]
        np.testing.assert_allclose(
            [one.score for one in some],
            np.abs(scores[expected]) if metric == "euclidean" else scores[expected],
            atol=1e-12,
        )
        assert all(one.place is None for one in some)
    assert store.search(torch.from_numpy(queries[2]), 12, metric=metric, rows=rows) == found[2]


@pytest.mark.parametrize("metric", METRICS)
def test_what_float32_cannot_tell_apart_is_compared_in_float64(metric, tmp_path):
    """Vectors that differ in the last bits, and vectors whose squares are zero or infinite in float32."""
    close = 1000 + vectors(40) * np.float32(1e-4)
    tiny, huge = vectors(9, seed=2) * np.float32(1e-25), vectors(9, seed=3) * np.float32(1e25)
    known = np.concatenate([close, tiny, huge])
    store = filled(tmp_path, known)
    for query in (close[7], tiny[3], huge[4]):
        expected = np.argsort(-scores_of(known, query, metric), kind="stable")
        found = [one.position for one in store.search(query, len(known), metric=metric)]
        assert found[0] == expected[0]
        scores = scores_of(known, query, metric)[found]
        assert (np.diff(scores) <= 1e-9 * np.abs(scores[1:]) + 1e-15).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_floats_are_compared_as_they_are_stored(metric, dtype, tmp_path):
    store = filled(tmp_path, vectors(), dtype=dtype)
    stored = np.stack([item["stage3"].float().numpy() for item in store])
    query = vectors(1, seed=1)[0]
    expected = np.argsort(-scores_of(stored, query, metric), kind="stable")[:9]
    assert [one.position for one in store.search(query, 9, metric=metric)] == expected.tolist()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1, 2, None])
@pytest.mark.parametrize("pool", [None, "grid:2"])
def test_the_best_place_of_each_image_is_that_of_all_pairs(metric, rows, pool, tmp_path):
    numbers = np.random.default_rng(0)
    shapes = [(2, 2)] if pool else [(2, 3), (2, 2)]
    known = [numbers.standard_normal((5, *shapes[i % len(shapes)])).astype(np.float32) for i in range(23)]
    known[8][:] = known[8][:, :1, :1]  # all places alike: the first one counts
    store = filled(tmp_path, known, pool)
    query = known[8][:, 0, 0]
    found = store.search(query, 30, metric=metric, places=True, rows=rows)
    best = {}
    for i, one in enumerate(known):
        scores = scores_of(one[None], query, metric)[0]
        row, column = np.unravel_index(np.argmax(np.round(scores, 12)), scores.shape)
        (height, width), (h, w) = SIZES[i % 2], scores.shape
        best[i] = (scores.max(), ((row + 0.5) * height / h, (column + 0.5) * width / w))
    assert [one.position for one in found] == sorted(best, key=lambda i: -round(best[i][0], 12))
    assert found[0].position == 8 and found[0].place == (16, 24 if pool else 16)
    for one in found:
        assert one.score == pytest.approx(
            abs(best[one.position][0]) if metric == "euclidean" else best[one.position][0], abs=1e-7
        )
        assert one.place == pytest.approx(best[one.position][1])
    means = np.stack([one.astype(np.float64).mean((1, 2)) for one in known])
    whole = store.search(query, 30, metric=metric, rows=rows)
    assert [one.position for one in whole] == np.argsort(-scores_of(means, query, metric), kind="stable").tolist()


def test_a_small_store_gives_what_it_has(tmp_path):
    store = filled(tmp_path / "few", vectors(2))
    assert len(store.search(vectors(1)[0], 10**9)) == 2
    with StoreWriter(tmp_path / "none", store.meta["settings"]) as writer:
        writer.add_unreadable("a", "cut off")
    empty = FeatureStore(tmp_path / "none")
    assert empty.search(vectors(1)[0]) == [] and empty.search(vectors(3)) == [[], [], []]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"metric": "cos"}, "unknown metric 'cos'"),
        ({"metric": None}, "unknown metric None"),
        ({"top": 0}, "top is 0; allowed: integers from 1 up"),
        ({"rows": 0}, "rows is 0"),
        ({"stage": "stage1"}, "unknown stage 'stage1'; allowed: stage3"),
        ({"places": True}, r"one vector of each image \(pool mean\); allowed: a store of maps or grid:K"),
        ({"vectors": np.zeros(4)}, r"shape \(4,\); allowed: \(5,\)"),
        ({"vectors": np.full(5, np.nan)}, "not finite"),
        ({"vectors": np.full(5, 1e39)}, "not finite"),
        ({"vectors": "cat"}, "allowed: numbers"),
        ({"vectors": None}, "shape"),
    ],
)
def test_another_argument_is_named(how, words, tmp_path):
    store = filled(tmp_path, vectors(3))
    with pytest.raises(UserError, match=words):
        store.search(**{"vectors": np.ones(5)} | how)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("pool", ["mean", "grid:2"])
def test_a_flat_index_gives_what_the_search_gives(metric, pool, tmp_path):
    pytest.importorskip("faiss")
    from backbones.store.faiss_index import search_by_faiss

    known = vectors(41) if pool == "mean" else np.random.default_rng(0).standard_normal((41, 5, 2, 2), np.float32)
    store, queries = filled(tmp_path, known, pool), vectors(3, seed=1)
    for _ in range(2):  # made, and read
        assert search_by_faiss(store, queries, top=7, metric=metric) == store.search(queries, 7, metric=metric)
    (path,) = (tmp_path / "faiss").glob("*.index")
    before = json.loads(path.with_suffix(".json").read_text())
    store = filled(tmp_path, [*known, known[0]], pool)  # one more
    store = FeatureStore(tmp_path)
    found = search_by_faiss(store, queries, top=100, metric=metric)
    assert found == store.search(queries, 100, metric=metric) and len(found[0]) == 42
    assert json.loads(path.with_suffix(".json").read_text()) != before
    path.write_bytes(b"cut")
    assert search_by_faiss(store, queries, top=7, metric=metric) == store.search(queries, 7, metric=metric)


@pytest.mark.parametrize("metric", METRICS)
def test_lists_find_most_neighbours_with_exact_scores(metric, tmp_path):
    pytest.importorskip("faiss")
    from backbones.store.faiss_index import search_by_faiss

    known = vectors(1500, 8)
    store = filled_at_once(tmp_path, known)
    found = search_by_faiss(store, known[:50], top=5, metric=metric, flat=100)
    expected = store.search(known[:50], 5, metric=metric)
    assert [some[0] for some in found] == [some[0] for some in expected]  # the images themselves
    scores = [{one.position: one.score for one in some} for some in store.search(known[:50], 1500, metric=metric)]
    assert all(one.score == all_of[one.position] for some, all_of in zip(found, scores) for one in some)


def filled_at_once(folder, rows):
    settings = {"arch": "van_b0", "stages": {"stage3": {"channels": 8}}, "pool": "mean", "dtype": "fp32"}
    with StoreWriter(folder, settings) as writer:
        for i, row in enumerate(rows):
            writer.add(f"{i}", (64, 64), {"stage3": torch.as_tensor(row)})
    return FeatureStore(folder)


@pytest.mark.parametrize("metric", METRICS)
def test_damaged_features_are_an_error(metric, tmp_path):
    store = filled(tmp_path, vectors())
    shard = max(tmp_path.rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-4] + b"\xff" * 4)  # NaN
    with pytest.raises(UserError, match=r"image number \d+ of the store are not finite, so its shard is damaged"):
        FeatureStore(tmp_path).search(vectors(1)[0], metric=metric)
    assert len(store) == 41
