"""The cache of tensors: bounded, never stale, empty in copies, and not used in graphs and transforms."""

import copy
import gc
import pickle

import pytest
import torch
from helpers import SMALL

from backbones import create_backbone
from backbones.ops import cache, global_filter, graph, vicinity
from backbones.ops.cache import TensorCache

LIKE = torch.zeros(1)


@pytest.fixture
def kept(monkeypatch):
    """A cache of the test's own, for all operations."""
    kept = TensorCache(cache.LIMIT)
    for module in (global_filter, graph, vicinity):
        monkeypatch.setattr(module, "CACHE", kept)
    return kept


def held(kept):
    return sum(entry.nbytes for entry in kept.entries.values())


def test_what_is_kept_stays_within_its_limit():
    kept, made = TensorCache(limit=1000), []
    for key, size in (("a", 100), ("b", 100), ("a", 100), ("c", 100), ("d", 1000), ("c", 100), ("d", 1000)):
        kept.get(key, lambda key=key, size=size: (made.append(key), torch.zeros(size))[1:], LIKE)
        assert held(kept) <= 1000
    assert made == ["a", "b", "c", "d", "c", "d"]


@pytest.mark.parametrize("arch", ["hornet_tiny_gf", "pvig_tiny", "vvt_tiny"])
def test_many_sizes_and_networks_do_not_pile_up(kept, tiny, arch):
    kept.limit = 200_000
    nets = [tiny(arch).eval() for _ in range(2)]
    with torch.no_grad():
        for side in range(64, 160, 32):
            for net in nets:
                net(torch.zeros(1, 3, side, 64))
                assert 0 < held(kept) <= kept.limit


def test_a_second_call_makes_nothing(kept, tiny, monkeypatch):
    """No network makes a table twice for one size."""
    nets = [tiny(arch).eval() for arch in ("hornet_tiny_gf", "pvig_tiny", "vvt_tiny")]
    made, keep = [], kept.keep
    monkeypatch.setattr(kept, "keep", lambda key, entry: made.append(key) or keep(key, entry))
    image = torch.zeros(1, 3, 64, 96)
    with torch.no_grad():
        for net in nets:
            net(image)
        first = len(made)
        for net in nets:
            net(image)
    assert first == len(made) == len(set(made)) > 0


def test_values_go_with_their_source():
    kept, source = TensorCache(1000), torch.nn.Parameter(torch.ones(2))

    def get():
        return kept.get("x", lambda: (source * 2,), LIKE, source)[0]

    assert torch.equal(get(), source * 2) and get() is get()
    with torch.no_grad():
        source.mul_(3)
    assert torch.equal(get(), source * 2) and len(kept.entries) == 1
    source.data = source.data * 3
    assert torch.equal(get(), source * 2) and len(kept.entries) == 1
    source.data.mul_(3)  # leaves no trace
    kept.forget(source)
    assert torch.equal(get(), source * 2)
    first, source = source, torch.nn.Parameter(torch.zeros(2))
    assert torch.equal(get(), source * 2) and len(kept.entries) == 2
    del first
    gc.collect()
    assert len(kept.entries) == 1


def test_filters_that_are_gone_hold_no_memory(kept):
    layer = global_filter.GlobalFilter(3, (14, 8)).eval()
    with torch.no_grad():
        layer(torch.randn(1, 3, 9, 11))
        copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    spectra = [key for key in kept.entries if key[1][0] == "spectrum"]
    assert len(spectra) == 1  # the copies have none
    del layer
    gc.collect()
    assert not any(key[1][0] == "spectrum" for key in kept.entries) and copies


@pytest.mark.parametrize("arch", SMALL)
def test_nothing_is_kept_where_it_would_not_serve_later_calls(kept, tiny, arch):
    """Of graphs, transforms, fake tensors and inference tensors; what inference mode makes serves training later."""
    net, image = tiny(arch).eval(), torch.randn(1, 3, 64, 96)
    torch.export.export(net, (image,))
    torch.jit.trace(net, image, check_trace=False)
    torch.func.grad(lambda x: net(x)[-1].sum())(image)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        net(mode.from_tensor(image))
    assert not kept.entries
    with torch.inference_mode():
        born_there = create_backbone(arch).eval()
        born_there(image)
        net(image)
    assert not any(t.is_inference() for entry in kept.entries.values() for t in entry.tensors)
    net(image.requires_grad_())[-1].sum().backward()
    assert image.grad.isfinite().all()


def test_nothing_is_kept_while_a_cuda_graph_is_captured(monkeypatch):
    """Nor taken: the graph would go on reading what the cache may drop."""
    kept = TensorCache(1000)
    first = kept.get("x", lambda: (torch.zeros(1),), LIKE)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert kept.get("x", lambda: (torch.ones(1),), LIKE)[0] == 1
    kept.get("y", lambda: (torch.ones(1),), LIKE)
    monkeypatch.undo()
    assert kept.get("x", lambda: (torch.ones(1),), LIKE) is first and len(kept.entries) == 1
