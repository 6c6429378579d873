"""A forward hook sees the tensor that its module returned, never one that is overwritten later. Stages are called."""

import pytest
import torch
from helpers import SMALL, trained_norms

from backbones import create_backbone
from backbones.ops import Conv1x1, conv_gelu
from backbones.stage import Stage

GRAPHS = [(arch, {"conv": conv}) for arch in ("pvig_tiny", "vig_tiny") for conv in ("edge", "sage", "gin")]


def kept_in(seen):
    """A forward hook that stores each output beside a copy of it."""

    def hook(module, args, output):
        seen.extend((module, t, t.clone()) for t in (output if isinstance(output, tuple) else (output,)))

    return hook


def overwritten(seen):
    return [type(module).__name__ for module, held, copy in seen if not torch.equal(held, copy)]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("arch", "options"), [(arch, {}) for arch in SMALL] + GRAPHS)
def test_hooks_see_what_each_module_returned(tiny, arch, options, fused):
    """With a hook on one module at a time, on all, and on all of the process."""
    net = trained_norms(tiny(arch, **options)).eval()
    net = net.fuse() if fused else net
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = net(image)
        for name, module in net.named_modules():
            seen = []
            handle = module.register_forward_hook(kept_in(seen))
            maps = net(image)
            handle.remove()
            assert overwritten(seen) == [], name
            assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
        seen = []
        handle = torch.nn.modules.module.register_module_forward_hook(kept_in(seen))
        net(image)
        handle.remove()
    assert len(seen) > len(net.stages) and overwritten(seen) == []


class Keeping(torch.nn.Module):
    """What somebody may put in the place of a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        self.kept = self.layer(x)
        return self.kept


@pytest.mark.parametrize("replaced", [Keeping(Conv1x1(4, 4)), torch.nn.Identity()])
def test_what_another_module_returns_is_left_alone(replaced):
    x = torch.randn(1, 4, 5, 5)
    before = x.clone()
    with torch.no_grad():
        y = conv_gelu(replaced, x)
        plain = replaced(before)
    assert torch.equal(x, before)
    assert torch.equal(y, torch.nn.functional.gelu(plain))
    assert not hasattr(replaced, "kept") or torch.equal(replaced.kept, plain)


def test_gelu_is_written_over_a_result_that_nobody_else_holds():
    """It saves the memory of a second map of that size."""
    conv, x, results = Conv1x1(4, 4), torch.randn(1, 4, 5, 5), []
    forward = conv.forward
    conv.forward = lambda x: results.append(forward(x)) or results[0]
    with torch.no_grad():
        assert conv_gelu(conv, x) is results[0]
    results.clear()
    assert conv_gelu(conv, x) is not results[0]  # a gradient needs it


@pytest.mark.parametrize("arch", SMALL)
def test_hooks_on_stages_fire(tiny, arch):
    net, called = tiny(arch).eval(), []
    for stage in net.stages:
        stage.register_forward_hook(lambda module, args, output: called.append((module, len(args), output)))
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 64, 64))
    assert [module for module, *_ in called] == list(net.stages)
    assert all(number == 1 for _, number, _ in called)
    if not arch.startswith("hornet"):
        assert all(torch.equal(output, m) for (*_, output), m in zip(called, maps, strict=True))


@pytest.mark.parametrize("out_blocks", [(0, 4), (1, 2, 5, 11), (3, 10)])
def test_quarters_with_maps_in_their_midst_are_called(out_blocks):
    net, called = create_backbone("vig_tiny", out_blocks=out_blocks).eval(), []
    for stage in net.stages:
        stage.register_forward_hook(lambda module, args, output: called.append(module))
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 64, 64))
    assert called == list(net.stages) and len(maps) == len(out_blocks)


class OnlyOneTensor(torch.nn.Module):
    """A stage's stand-in, as tools that take layers out one by one put it there."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, x):
        return self.stage(x) * 0.5


@pytest.mark.parametrize("grad_checkpointing", [False, True])
@pytest.mark.parametrize("arch", SMALL)
def test_a_stage_can_be_replaced_by_what_takes_one_tensor(tiny, arch, grad_checkpointing):
    net = tiny(arch, grad_checkpointing=grad_checkpointing)
    assert all(isinstance(stage, Stage) for stage in net.stages)
    net.stages[-1] = OnlyOneTensor(net.stages[-1])
    assert len(net(torch.randn(2, 3, 64, 64))) == 4
