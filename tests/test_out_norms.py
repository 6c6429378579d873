"""HorNet's output norms: a head may leave out fine maps, and every parameter still gets a gradient, for DDP."""

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

ARCH = "hornet_tiny_7x7"
TAKEN = [(0, 1, 2, 3), (1, 2, 3), (3,), (0, 3)]


def backward(net, taken, image):
    maps = net(image)
    sum(m.square().mean() for i, m in enumerate(maps) if i in taken).backward()


def settled_by_weights(tiny):
    """A network that got its norms from the weights that it loaded."""
    from backbones import load_weights

    net = tiny(ARCH)
    load_weights(net, tiny(ARCH, out_norm=True).state_dict())
    assert len(net.out_norms) == 4
    return net


@pytest.mark.parametrize("grad_checkpointing", [False, True])
@pytest.mark.parametrize("frozen_stages", [-1, 0, 2])
@pytest.mark.parametrize("taken", TAKEN)
def test_every_parameter_gets_a_gradient_whichever_maps_are_taken(tiny, taken, frozen_stages, grad_checkpointing):
    net = tiny(ARCH, out_norm=True, frozen_stages=frozen_stages, grad_checkpointing=grad_checkpointing).train()
    backward(net, taken, torch.randn(2, 3, 64, 64))
    assert [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None] == []
    for i, norm in net.out_norms.items():
        if norm.weight.requires_grad:
            assert (norm.weight.grad.abs().sum() > 0) == (int(i) in taken)


def test_norms_that_weights_brought_get_gradients_too(tiny):
    net = settled_by_weights(tiny).train()
    backward(net, (2, 3), torch.randn(2, 3, 64, 64))
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_gradients_are_those_of_the_taken_maps_alone(tiny):
    net, image = tiny(ARCH, out_norm=True).double().train(), torch.randn(2, 3, 64, 64).double()
    backward(net, (1, 3), image)
    ours = {name: p.grad for name, p in net.named_parameters()}
    part = tiny(ARCH, out_norm=True, out_indices=(1, 3)).double().train()
    part.load_state_dict(net.state_dict(), strict=False)
    backward(part, (0, 1), image)
    for name, p in part.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, msg=name)


@pytest.mark.parametrize("taken", TAKEN)
def test_ddp_goes_on(tiny, taken, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        net = DistributedDataParallel(tiny(ARCH, out_norm=True))
        for _ in range(3):
            backward(net, taken, torch.randn(2, 3, 32, 32))
    finally:
        dist.destroy_process_group()


def test_training_compiles_with_output_norms(tiny):
    net = tiny(ARCH, out_norm=True).train()
    backward(torch.compile(net, fullgraph=True, backend="aot_eager"), (1, 2, 3), torch.randn(2, 3, 64, 64))
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
