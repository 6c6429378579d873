"""The layers that Pyramid ViG and the isotropic ViG share: the stem, and the block with its graph convolution.

Source: Vision GNN, arXiv 2206.00272; huawei-noah/Efficient-AI-Backbones@f90e129, vig_pytorch/{vig,pyramid_vig}.py and
gcn_lib/torch_vertex.py.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import UserError, shown
from backbones.layers import ConvNorm, DropPath
from backbones.ops import conv_gelu, graph
from backbones.ops.resize import resized


class GraphOptions(NamedTuple):
    """A user's choices about the graphs of a network.

    Attributes:
        conv: the graph convolution: ``"mr"`` (max-relative, in all published weights), ``"edge"``, ``"sage"`` or
            ``"gin"``.
        relative_position: ``"published"`` or ``"grid"``: how positions enter at sizes other than 224x224. See
            :func:`backbones.ops.graph.relative_position_codes`.
        stochastic: a probability in [0, 1], for training only. With this probability a layer draws its K neighbours at
            random from the K * dilation nearest candidates. Otherwise it takes every dilation-th of them.
        budget: bytes of similarities between nodes and candidates that may exist at a time, 1 or more. See
            :func:`backbones.ops.graph.nearest`.
    """

    conv: str = "mr"
    relative_position: str = "published"
    stochastic: float = 0.0
    budget: int = graph.BUDGET

    def check(self) -> "GraphOptions":
        """Returns the options; UserError if a value is not allowed."""
        for name, allowed in (("conv", tuple(GRAPH_CONVS)), ("relative_position", graph.RULES)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in allowed:
                raise UserError(f"{name} is {shown(value)}; allowed: {', '.join(allowed)}")
        number = isinstance(self.stochastic, int | float) and not isinstance(self.stochastic, bool)
        if not number or not 0 <= self.stochastic <= 1:
            raise UserError(f"stochastic is {shown(self.stochastic)}; allowed: 0 <= stochastic <= 1")
        if isinstance(self.budget, bool) or not isinstance(self.budget, int) or self.budget < 1:
            raise UserError(f"budget is {shown(self.budget)}; allowed: bytes, integers from 1")
        return self


class GraphStem(nn.Module):
    """Convolutions of stride 2, each with GELU, one of stride 1, and a learned position embedding.

    The embedding was learned for inputs of 224x224. At other sizes it is resized (bicubic).

    Args:
        in_chans: channels of the input.
        widths: channels after each convolution of stride 2. The output has the last number.
        native: height and width of the embedding.
    """

    def __init__(self, in_chans: int, widths: tuple[int, ...], native: int):
        super().__init__()
        pairs = zip((in_chans, *widths), widths, strict=False)
        self.convs = nn.ModuleList(ConvNorm(a, b, kernel_size=3, stride=2) for a, b in pairs)
        self.last = ConvNorm(widths[-1], widths[-1], kernel_size=3)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[-1], native, native))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv_gelu(conv, x)
        x = self.last(x)
        return x + resized(self.pos_embed, x.shape[2:], mode="bicubic", align_corners=False)


class ViGBlock(nn.Module):
    """Grapher, then a feed-forward network, each with its shortcut: (B, C, H, W) to the same shape.

    Args:
        dim: channels C.
        k: neighbours of a node.
        dilation: which of the nearest candidates become neighbours. 2 takes the 1st, 3rd, 5th, ...
        options: see :class:`GraphOptions`.
        drop_path: rate of both branches.
        ratio: the candidates are the map after average pooling by this ratio.
        native: nodes per side of the published table of relative positions; None for a graph without positions.
    """

    def __init__(
        self,
        dim: int,
        k: int,
        dilation: int,
        options: GraphOptions,
        drop_path: float,
        ratio: int = 1,
        native: int | None = None,
    ):
        super().__init__()
        self.grapher = Grapher(dim, k, dilation, options, ratio, native)
        self.ffn = FeedForward(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.grapher(x))
        return x + self.drop_path(self.ffn(x))


class Grapher(nn.Module):
    """1x1 convolution, graph convolution over the nearest positions, 1x1: (B, C, H, W) to the same shape."""

    def __init__(self, dim: int, k: int, dilation: int, options: GraphOptions, ratio: int, native: int | None):
        super().__init__()
        self.fc1 = ConvNorm(dim, dim, kernel_size=1)
        self.graph = GRAPH_CONVS[options.conv](dim)
        self.fc2 = ConvNorm(2 * dim, dim, kernel_size=1)
        self.k, self.dilation, self.options, self.ratio, self.native = k, dilation, options, ratio, native

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        pooled = x
        if self.ratio > 1:
            # Partial windows at the edges become candidates too, so every position is part of a candidate.
            pooled = F.avg_pool2d(x, self.ratio, self.ratio, ceil_mode=True, count_include_pad=False)
        index = self.neighbours(x, pooled)
        y = self.graph(rows_of(x), rows_of(pooled), index)
        return self.fc2(y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2))

    @torch.no_grad()
    def neighbours(self, x: Tensor, pooled: Tensor) -> Tensor:
        """(B, N, K) indices of candidates. With few candidates the dilation shrinks first, then K."""
        count = pooled.shape[2] * pooled.shape[3]
        k = self.k if self.k <= count else count  # min() of a free count would stay in an exported graph
        dilation = self.dilation if self.dilation <= count // k else count // k
        codes = None
        if self.native is not None:
            sizes = (*x.shape[2:], *pooled.shape[2:])
            codes = graph.codes_like(x, x.shape[1], self.native, self.ratio, *sizes, self.options.relative_position)
        index = graph.nearest(rows_of(x), rows_of(pooled), k * dilation, codes, self.options.budget)
        if not (self.training and self.options.stochastic):
            return index[..., ::dilation]
        drawn = torch.randperm(k * dilation, device=x.device)[:k]
        every = torch.arange(0, k * dilation, dilation, device=x.device)
        return index[..., torch.where(torch.rand((), device=x.device) < self.options.stochastic, drawn, every)]


class FeedForward(nn.Module):
    """1x1 to the hidden width, GELU, 1x1 back, each with BatchNorm: (B, C, H, W) to the same shape."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = ConvNorm(dim, hidden_dim, kernel_size=1)
        self.fc2 = ConvNorm(hidden_dim, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(conv_gelu(self.fc1, x))


class MaxRelative(nn.Module):
    """Max-relative graph convolution (arXiv 1904.03751): nn(x_i, max_j(y_j - x_i)).

    All graph convolutions here take nodes x (B, N, C), candidates y (B, M, C), and the (B, N, K) indices of each node's
    neighbours among the candidates. They return (B, N, 2C). ``nn`` stands for a 1x1 convolution in four groups with
    BatchNorm, then GELU. Its arguments are joined along the channels. j runs over the neighbours of node i.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.nn = ConvNorm(2 * dim, 2 * dim, kernel_size=1, groups=4)

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        relative = graph.max_relative(x, y, index)
        both = torch.stack((x, relative), dim=-1).flatten(2)  # node and difference channel by channel
        return pointwise_gelu(self.nn, both[:, :, None])[:, :, 0]


class Edge(nn.Module):
    """Edge convolution (arXiv 1801.07829): max_j nn(x_i, y_j - x_i)."""

    def __init__(self, dim: int):
        super().__init__()
        self.nn = ConvNorm(2 * dim, 2 * dim, kernel_size=1, groups=4)

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        x = x[:, :, None].expand(-1, -1, index.shape[2], -1)
        return pointwise_gelu(self.nn, torch.cat((x, graph.gather(y, index) - x), dim=-1)).amax(2)


class SAGE(nn.Module):
    """GraphSAGE (arXiv 1706.02216): nn2(x_i, max_j nn1(y_j))."""

    def __init__(self, dim: int):
        super().__init__()
        self.nn1 = ConvNorm(dim, dim, kernel_size=1, groups=4)
        self.nn2 = ConvNorm(2 * dim, 2 * dim, kernel_size=1, groups=4)

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        largest = pointwise_gelu(self.nn1, graph.gather(y, index)).amax(2)
        return pointwise_gelu(self.nn2, torch.cat((x, largest), dim=-1)[:, :, None])[:, :, 0]


class GIN(nn.Module):
    """Graph isomorphism network (arXiv 1810.00826): nn((1 + eps) x_i + sum_j y_j)."""

    def __init__(self, dim: int):
        super().__init__()
        self.nn = ConvNorm(dim, 2 * dim, kernel_size=1, groups=4)
        self.eps = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
        total = (1 + self.eps) * x + graph.gather(y, index).sum(2)
        return pointwise_gelu(self.nn, total[:, :, None])[:, :, 0]


GRAPH_CONVS = {"mr": MaxRelative, "edge": Edge, "sage": SAGE, "gin": GIN}


def pointwise_gelu(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv``, a 1x1 convolution, over the last axis of (B, N, K, C), then GELU."""
    return conv_gelu(conv, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def rows_of(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W, C). The result is a view if the channels lie last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def init_graph_module(module: nn.Module) -> None:
    """Convolutions: normal by fan-in (He et al.), biases 0; norms 1 and 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
