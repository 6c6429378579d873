"""Exported and traced networks give eager's numbers, in float32, with and without gradients, fused or not."""

import io

import pytest
import torch
from helpers import SMALL, trained_norms

from backbones import SimpleFeaturePyramid, create_backbone
from backbones.gated_conv import GatedConv
from backbones.graph_layers import GRAPH_CONVS
from backbones.ops import Conv1x1, DepthwiseConv2d, GlobalFilter, graph, vicinity_attention


def moved(module):
    """Weights, statistics and scales away from their initial values, biases too."""
    for param in module.parameters():
        param.data += 0.1 * torch.randn_like(param)
    return trained_norms(module)


def check_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def exported(module, *args):
    return torch.export.export(module, args).module()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("arch", SMALL)
def test_an_exported_network_is_the_same_network(tiny, arch, gradients, fused):
    net = moved(tiny(arch)).eval()
    net = net.fuse() if fused else net
    memory_format = torch.channels_last if fused else torch.contiguous_format
    image = torch.randn(2, 3, 64, 64).contiguous(memory_format=memory_format)
    with torch.set_grad_enabled(gradients):
        maps = exported(net, image)(image)
        check_close(maps, net(image))
    assert all(m.is_contiguous(memory_format=memory_format) for m in maps)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("arch", SMALL)
def test_a_traced_network_is_the_same_network(tiny, arch, gradients):
    """On the traced size; it can be saved, so nothing in it is Python's."""
    net = moved(tiny(arch)).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.set_grad_enabled(gradients):
        file = io.BytesIO()
        torch.jit.save(torch.jit.trace(net, image, check_trace=False), file)
        file.seek(0)
        check_close(torch.jit.load(file)(image), net(image))


class Op(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


INDEX = torch.randint(20, (2, 30, 5))
NODES = (torch.randn(2, 30, 8), torch.randn(2, 20, 8), INDEX)
OPERATIONS = {
    **{
        f"depthwise {kernel} {dilation} {bias}": (DepthwiseConv2d(8, kernel, dilation, bias), 14)
        for kernel in (3, 5, 7)
        for dilation in (1, 2, 3)
        for bias in (True, False)
    },
    **{f"1x1 on {side}": (Conv1x1(8, 6), side) for side in (4, 20)},
    **{f"filter on {side}": (GlobalFilter(8, (14, 8)), side) for side in (7, 14, 40)},
    **{f"gated {size}": (GatedConv(8, 8, 2, size), 14) for size in (None, (14, 8))},
    "pyramid": (SimpleFeaturePyramid(8, 8), 9),
}


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_exported_operations(name, gradients):
    layer, side = OPERATIONS[name]
    layer, x = moved(layer).eval(), torch.randn(2, 8, side, side)
    with torch.set_grad_enabled(gradients):
        ours, theirs = exported(layer, x)(x), layer(x)
        check_close(*((t if isinstance(t, tuple) else (t,)) for t in (ours, theirs)))


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", GRAPH_CONVS)
def test_exported_graph_convolutions(kind, gradients):
    layer = moved(GRAPH_CONVS[kind](8)).eval()
    nodes = [t.clone().requires_grad_(gradients and t.is_floating_point()) for t in NODES]
    with torch.set_grad_enabled(gradients):
        check_close([exported(layer, *nodes)(*nodes)], [layer(*nodes)])


@pytest.mark.parametrize("gradients", [True, False])
def test_exported_functions(gradients):
    q, k, v = (torch.randn(1, 2, 5, 6, 4, requires_grad=gradients) for _ in range(3))
    x, y, _ = (t.clone().requires_grad_(gradients and t.is_floating_point()) for t in NODES)
    with torch.set_grad_enabled(gradients):
        check_close([exported(Op(vicinity_attention), q, k, v)(q, k, v)], [vicinity_attention(q, k, v)])
        check_close([exported(Op(graph.gathered_max), y, INDEX)(y, INDEX)], [graph.gathered_max(y, INDEX)])
        nearest = Op(lambda x, y: graph.nearest(x, y, 6))
        assert torch.equal(exported(nearest, x, y)(x, y), nearest(x, y))


@pytest.mark.parametrize("arch", SMALL)
def test_functional_gradients_are_those_of_backward(tiny, arch):
    """torch.func.grad of the weights, and of each image on its own by vmap, in eval mode."""
    net = moved(tiny(arch)).eval()
    params = {name: param.detach() for name, param in net.named_parameters()}
    images = torch.randn(2, 3, 64, 64)

    def loss(params, image):
        return sum(m.square().mean() for m in torch.func.functional_call(net, params, (image[None],)))

    functional = torch.func.grad(loss)(params, images[0])
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(params, images)
    for i, image in enumerate(images):
        net.zero_grad()
        sum(m.square().mean() for m in net(image[None])).backward()
        for name, param in net.named_parameters():
            limit = 1e-3 * param.grad.norm() + 1e-7
            assert (each[name][i] - param.grad).norm() <= limit, name
            assert i or (functional[name] - param.grad).norm() <= limit, name


@pytest.mark.parametrize("arch", SMALL)
def test_tensors_made_within_a_transform_are_not_kept(cut_depths, arch):
    """They would belong to it, and break the next call."""
    cut_depths(arch, (1, 1, 1, 1))
    net = create_backbone(arch).eval().requires_grad_(False)
    image = torch.randn(1, 3, 96, 65)
    total = lambda x: sum(m.square().sum() for m in net(x))  # noqa: E731
    torch.func.grad(total)(image)
    assert total(image).isfinite()
    assert torch.func.grad(total)(image).isfinite().all()
