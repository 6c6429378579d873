"""Compiled and exported networks: one whole graph, eager's numbers; autocast without NaN or warnings."""

import copy
import warnings
from contextlib import nullcontext

import pytest
import torch
from helpers import SMALL, loss, trained_norms

from backbones import create_backbone

# An export of a graph network takes half a minute, so each is exported in one of its two forms.
SLOW = [("vig_tiny", False), ("pvig_tiny", True)]
EXPORTED = [(arch, fused) for arch in SMALL for fused in (False, True) if (arch, fused) not in SLOW]


@pytest.mark.parametrize("arch", SMALL)
def test_inference_compiles_whole(tiny, arch):
    """In float64, where a graph's nearest neighbours do not depend on rounding."""
    net = trained_norms(tiny(arch)).double().eval()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    image = torch.randn(1, 3, 70, 101).double()
    with torch.no_grad():
        for ours, theirs in zip(compiled(image), net(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
            assert ours.is_contiguous()


@pytest.mark.parametrize("grad_checkpointing", [False, True])
@pytest.mark.parametrize("arch", SMALL)
def test_training_compiles_whole(tiny, arch, grad_checkpointing):
    """Same gradients and statistics as in eager, where blocks are recomputed too."""
    eager = trained_norms(tiny(arch, grad_checkpointing=grad_checkpointing)).double().train()
    net = copy.deepcopy(eager)
    image = torch.randn(2, 3, 64, 64).double()
    loss(torch.compile(net, fullgraph=True, backend="aot_eager")(image)).backward()
    loss(eager(image)).backward()
    for (name, ours), theirs in zip(net.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7, msg=name)
    for (name, ours), theirs in zip(net.named_buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


@pytest.mark.parametrize("arch", SMALL)
def test_a_compiled_graph_takes_further_sizes(tiny, arch):
    net = tiny(arch).double().eval()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad():
        for size in ((160, 160), (192, 256)):  # the second makes the compiler ask for any size
            compiled(torch.randn(1, 3, *size).double())
        image = torch.randn(1, 3, 225, 330).double()
        with torch._dynamo.config.patch(error_on_recompile=True):
            maps = compiled(image)
        for ours, theirs in zip(maps, net(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("arch", SMALL)
def test_no_graph_break_in_float32_and_autocast(tiny, arch, precision):
    """These have fast paths that float64 has not."""
    net = tiny(arch)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with torch.autocast("cpu", precision, enabled=precision is not None):
        assert loss(compiled(torch.randn(2, 3, 64, 64))).isfinite()
        with torch.no_grad():
            net.eval()
            assert loss(compiled(torch.randn(2, 3, 64, 64))).isfinite()


@pytest.mark.parametrize(("arch", "fused"), EXPORTED)
def test_exports_for_any_batch_and_size(tiny, arch, fused):
    is_graph = "vig" in arch
    net = trained_norms(tiny(arch, **(dict(budget=1 << 30) if is_graph else {}))).double().eval()
    net = net.fuse() if fused else net
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(2, 3, 160, 192).double(),), dynamic_shapes=(free,))
        image = torch.randn(1, 3, 224, 330).double()
        for ours, theirs in zip(program.module()(image), net(image), strict=True):
            assert (ours - theirs).norm() / theirs.norm() < 1e-10
        if is_graph:
            assert len(program.module()(torch.randn(1, 3, 512, 512).double())) == 4
        else:  # README.md states these sizes
            side = 64 if "hornet" in arch else 33
            image = torch.randn(1, 3, side, side).double()
            for ours, theirs in zip(program.module()(image), net(image), strict=True):
                assert (ours - theirs).norm() / theirs.norm() < 1e-10


def test_an_exported_graph_network_says_which_sizes_it_takes(cut_depths):
    """No block of rows is cut there, and no neighbourhood made smaller: twice the neighbours want 18 positions."""
    cut_depths("pvig_tiny", (1, 1, 3, 1))  # the last of which takes every second neighbour
    net = create_backbone("pvig_tiny", budget=64 << 20).eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(2, 3, 160, 192),), dynamic_shapes=(free,)).module()
        for size, fit in {(192, 96): True, (160, 96): False, (512, 512): False}.items():
            with nullcontext() if fit else pytest.raises(AssertionError, match="Guard failed"):
                assert len(program(torch.randn(1, 3, *size))) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("arch", SMALL)
def test_autocast_is_finite_and_quiet(tiny, arch, dtype):
    net = tiny(arch).train()
    for name, param in net.named_parameters():
        if "gamma" in name or "layer_scale" in name:
            param.data.fill_(0.5)  # they start so small that their branches would hide
    image = torch.randn(2, 3, 80, 112)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", dtype):
            maps = net(image)
        loss(maps).backward()
        with torch.no_grad(), torch.autocast("cpu", dtype):
            maps += net.eval()(image)
    assert all(m.isfinite().all() for m in maps)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    half = net.to(dtype)
    with torch.no_grad():
        assert all(m.dtype == dtype and m.isfinite().all() for m in half(image.to(dtype)))
