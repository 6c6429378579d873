"""Graphs against literal references: neighbours from whole distance matrices, aggregation from gathered tensors."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from backbones import PViG, UserError, ViG, create_backbone
from backbones.graph_layers import GRAPH_CONVS, Grapher, GraphOptions
from backbones.ops import graph
from ziggurat.engine.memory import peak_of_tensors

pytestmark = pytest.mark.numeric


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation's result has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def literal_distances(x, y, table=0.0):
    x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    return (x[:, :, None] - y[:, None]).square().sum(-1) + table


def literal_table(dim, native, ratio):
    """The published table: a Gram matrix of sine-cosine codes, resized along the flattened candidates."""
    omega = 1.0 / 10000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    place = torch.arange(native * native)
    x, y = (place % native)[:, None] * omega, (place // native)[:, None] * omega
    codes = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
    table = codes @ codes.T * (-2 / dim)
    size = (native**2, (native // ratio) ** 2)
    return F.interpolate(table[None, None], size=size, mode="bicubic")[0]


def gathered(y, index):
    """(B, N, K, C) by plain indexing."""
    return torch.stack([rows[i] for rows, i in zip(y, index, strict=True)])


@pytest.fixture
def nodes():
    """Nodes, candidates (one of them 0) and neighbours in float64."""
    x = torch.randn(2, 30, 8, dtype=torch.float64)
    y = torch.randn(2, 11, 8, dtype=torch.float64)
    y[1, 4] = 0
    return x, y, torch.stack([torch.randperm(11)[:5] for _ in range(60)]).view(2, 30, 5)


@pytest.mark.parametrize("budget", [1, 2 * 11 * 8 * 7, 1 << 20])
@pytest.mark.parametrize("with_codes", [False, True])
def test_neighbours_are_the_nearest_in_order_whatever_the_budget(nodes, budget, with_codes):
    x, y, _ = nodes
    codes = (torch.randn(30, 4).double(), torch.randn(11, 4).double()) if with_codes else None
    table = -2 * codes[0] @ codes[1].T if with_codes else 0.0
    expected = literal_distances(x, y, table).topk(6, largest=False).indices
    assert torch.equal(graph.nearest(x, y, 6, codes, budget), expected)


def test_no_table_of_all_pairs_exists_above_the_budget():
    x, y = torch.randn(1, 4000, 8), torch.randn(1, 1000, 8)
    codes = (torch.randn(4000, 8), torch.randn(1000, 8))
    with LargestTensor() as seen:
        graph.nearest(x, y, 4, codes, budget=400_000)
    assert seen.elements <= 100_000
    with LargestTensor() as seen:
        graph.nearest(x, y, 4, codes, budget=1 << 30)
    assert seen.elements == 4_000_000  # the measure sees what it should


def test_all_similarities_at_a_time_stay_within_the_budget():
    """With the positions' part, for one image, where that is as large as the rest."""
    x, y = torch.randn(1, 4000, 8), torch.randn(1, 1000, 8)
    codes = (torch.randn(4000, 8), torch.randn(1000, 8))
    rows = 2 * x.nbytes + y.nbytes + 4 * 4000 * 8  # normalised nodes, their candidates, what is found
    budget = 1 << 22
    assert peak_of_tensors(lambda: graph.nearest(x, y, 4, codes, budget), torch.device("cpu")) < budget + 2 * rows
    assert peak_of_tensors(lambda: graph.nearest(x, y, 4, codes, 8 * budget), torch.device("cpu")) > 4 * budget


@pytest.mark.parametrize("operation", [graph.gathered_max, graph.gather])
def test_a_candidate_near_to_thousands_of_nodes_gets_its_gradient_in_half_types(operation):
    y = torch.zeros(1, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    operation(y, torch.zeros(1, 4096, 1, dtype=torch.long)).sum().backward()
    assert y.grad.item() == 4096


@pytest.mark.parametrize(("dim", "native", "ratio"), [(16, 16, 4), (24, 12, 2), (16, 9, 1)])
@pytest.mark.parametrize("scale", [1, 0.7, 1.6])
def test_codes_multiply_to_the_published_table_at_any_size(dim, native, ratio, scale):
    """At its own size, and resized over both axes as the published code resizes it."""
    table = literal_table(dim, native, ratio)
    height, width = round(native * scale), round(native * scale) + (scale != 1)
    rows, columns = -(-height // ratio), -(-width // ratio)
    expected = F.interpolate(table[None], size=(height * width, rows * columns), mode="bicubic")[0, 0]
    p, q = graph.relative_position_codes(dim, native, ratio, height, width, rows, columns, "published")
    assert p.shape == (height * width, dim) and q.shape == (rows * columns, dim)
    torch.testing.assert_close(-2 * p @ q.T, expected, rtol=0, atol=1e-12)


def test_grid_rule_depends_on_true_distances_only():
    p, q = graph.relative_position_codes(16, 14, 1, 5, 8, 5, 8, "grid")
    table = (-2 * p @ q.T).view(5, 8, 5, 8)
    torch.testing.assert_close(table[0, 0, 2, 3], table[1, 4, 3, 7])
    own = torch.arange(40)
    torch.testing.assert_close(table.view(40, 40)[own, own], torch.full((40,), -1.0, dtype=torch.float64))
    assert torch.equal(table.view(40, 40).argmin(1), own)
    # A pooled candidate lies in the middle of its window: as far from the window's corners.
    p, q = graph.relative_position_codes(16, 14, 2, 4, 4, 2, 2, "grid")
    corners = (p @ q.T).view(4, 4, 2, 2)[:2, :2, 0, 0]
    torch.testing.assert_close(corners, corners.flip(0, 1))


def test_grid_rule_is_the_published_one_at_the_native_size():
    sizes = (14, 14, 14, 14)
    for ours, theirs in zip(
        graph.relative_position_codes(16, 14, 1, *sizes, "grid"),
        graph.relative_position_codes(16, 14, 1, *sizes, "published"),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_max_relative_against_gathering(nodes):
    x, y, index = (t.requires_grad_() if t.is_floating_point() else t for t in nodes)
    literal = (gathered(y, index) - x[:, :, None]).amax(2)
    ours = graph.max_relative(x, y, index)
    assert torch.equal(ours, literal) or (ours - literal).abs().max() < 1e-14
    weight = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (x, y), weight), torch.autograd.grad(literal, (x, y), weight), strict=True
    ):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(lambda x, y: graph.max_relative(x, y, index), (x, y))


def test_of_equal_neighbours_one_gets_the_gradient():
    y = torch.zeros(1, 3, 2, requires_grad=True)
    graph.gathered_max(y, torch.tensor([[[2, 0, 1]]])).sum().backward()
    assert y.grad.tolist() == [[[0, 0], [0, 0], [1, 1]]]


def test_aggregation_makes_no_tensor_of_all_neighbours():
    x, y = torch.randn(1, 500, 16, requires_grad=True), torch.randn(1, 100, 16, requires_grad=True)
    index = torch.randint(100, (1, 500, 9))
    with LargestTensor() as seen:
        graph.max_relative(x, y, index).sum().backward()
    assert seen.elements <= 500 * 16


def literal_conv(conv, kind, x, y, index):
    """The published formulas over (B, 2C, N, K) tensors."""
    apply = lambda nn, t: F.gelu(nn(t.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # noqa: E731
    centre = x[:, :, None].expand(-1, -1, index.shape[2], -1)
    neighbours = gathered(y, index)
    if kind == "mr":
        both = torch.cat((x[..., None], (neighbours - centre).amax(2)[..., None]), dim=-1).flatten(2)
        return apply(conv.nn, both[:, :, None])[:, :, 0]
    if kind == "edge":
        return apply(conv.nn, torch.cat((centre, neighbours - centre), dim=-1)).amax(2)
    if kind == "sage":
        largest = apply(conv.nn1, neighbours).amax(2)
        return apply(conv.nn2, torch.cat((x, largest), dim=-1)[:, :, None])[:, :, 0]
    return apply(conv.nn, ((1 + conv.eps) * x + neighbours.sum(2))[:, :, None])[:, :, 0]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", GRAPH_CONVS)
def test_graph_convolutions_against_their_formulas(nodes, kind, training):
    x, y, index = nodes
    conv = GRAPH_CONVS[kind](8).double().train(training)
    for module in conv.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    torch.testing.assert_close(conv(x, y, index), literal_conv(conv, kind, x, y, index))


@pytest.mark.parametrize("kind", GRAPH_CONVS)
@pytest.mark.parametrize("arch", ["pvig_tiny", "vig_tiny"])
def test_networks_of_every_convolution_train_and_fuse(arch, kind):
    net = create_backbone(arch, out_indices=(0,), conv=kind).double().train()
    sum(m.square().mean() for m in net(torch.randn(2, 3, 48, 32).double())).backward()
    assert all(p.grad is not None for p in net.parameters())
    image = torch.randn(1, 3, 48, 32).double()
    with torch.no_grad():
        before = net.eval()(image)[0]
        torch.testing.assert_close(net.fuse()(image)[0], before)


def test_few_candidates_lower_the_dilation_then_the_number():
    grapher = Grapher(8, k=9, dilation=3, options=GraphOptions(), ratio=2, native=4)
    for size, expected in (((12, 12), 9), ((10, 8), 9), ((4, 4), 4), ((3, 1), 2)):
        x = torch.randn(1, 8, *size)
        pooled = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False) if min(size) > 1 else x[:, :, ::2]
        index = grapher.neighbours(x, pooled)
        assert index.shape == (1, size[0] * size[1], expected)
        assert all(len(set(row.tolist())) == expected for row in index[0])


def test_dilation_takes_every_so_many_ranks_and_stochastic_draws_among_them():
    x = torch.randn(1, 8, 9, 9, dtype=torch.float64)  # where the nearest do not depend on rounding
    plain = Grapher(8, 4, 3, GraphOptions(), 1, None)
    nearest = graph.nearest(x.flatten(2).mT, x.flatten(2).mT, 12)
    assert torch.equal(plain.neighbours(x, x), nearest[..., ::3])
    drawing = Grapher(8, 4, 3, GraphOptions(stochastic=1.0), 1, None)
    drawn = [drawing.train().neighbours(x, x) for _ in range(4)]
    assert len({tuple(d[0, 0].tolist()) for d in drawn}) > 1
    assert all((d[..., None] == nearest[:, :, None]).any(-1).all() for d in drawn)
    assert torch.equal(drawing.eval().neighbours(x, x), nearest[..., ::3])


@pytest.mark.parametrize(("stage", "native"), [(2, 14), (3, 7)])
def test_rules_agree_at_224_and_differ_elsewhere(stage, native):
    published = create_backbone("pvig_tiny").double()
    grid = create_backbone("pvig_tiny", relative_position="grid").double()
    grid.load_state_dict(published.state_dict())
    for size in (native, native + 2):
        x = torch.randn(1, published.feature_info[stage].channels, size, size).double()
        ours, theirs = (net.stages[stage].blocks[0].grapher.neighbours(x, x) for net in (published, grid))
        assert torch.equal(ours, theirs) == (size == native)


@pytest.mark.parametrize("size", [(99, 70), (225, 223)])
def test_sides_that_the_pooling_does_not_divide(size):
    net = create_backbone("pvig_tiny", out_indices=(0, 1)).train()
    maps = net(torch.randn(1, 3, *size))
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("family", "kwargs", "words"),
    [
        (PViG, {"conv": "gat"}, ["conv", "'gat'", "mr, edge, sage, gin"]),
        (ViG, {"conv": "MR"}, ["conv", "'MR'"]),
        (PViG, {"relative_position": "none"}, ["relative_position", "published, grid"]),
        (PViG, {"stochastic": 1.5}, ["stochastic", "1.5"]),
        (ViG, {"budget": 0}, ["budget", "0", "bytes"]),
        (ViG, {"out_blocks": (0, 12)}, ["out_blocks", "(0, 12)", "-12 to 11"]),
        (ViG, {"out_blocks": ()}, ["out_blocks", "at least one"]),
    ],
)
def test_wrong_options_are_named(family, kwargs, words):
    with pytest.raises(UserError) as caught:
        family("pvig_tiny" if family is PViG else "vig_tiny", **kwargs)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("out_blocks", [(2, 5, 8, 11), (0, 4), (-1,), (6,)])
def test_maps_after_chosen_blocks(out_blocks):
    """Equal to those of the whole network; later blocks are not built, and all that is has a gradient."""
    whole = create_backbone("vig_tiny", out_blocks=tuple(range(12))).double().eval()
    net = create_backbone("vig_tiny", out_blocks=out_blocks).double().eval()
    wanted = sorted(i % 12 for i in out_blocks)
    assert sum(len(stage.blocks) for stage in net.stages) == wanted[-1] + 1
    assert [info.stride for info in net.feature_info] == [16] * len(out_blocks)
    report = net.load_state_dict(whole.state_dict(), strict=False)
    assert report.missing_keys == []
    image = torch.randn(1, 3, 64, 48).double()
    maps = net(image)
    with torch.no_grad():
        every = whole(image)
    for ours, i in zip(maps, wanted, strict=True):
        assert torch.equal(ours, every[i])
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None for p in net.parameters())
