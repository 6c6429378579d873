"""The base of every network: out_indices, feature_info, freezing, checkpointing, loading."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.errors import UserError, unknown
from backbones.layers import drop_path_rates
from backbones.weights.load import load_weights
from backbones.weights.table import first_name

SLICE_BYTES = 16 << 20  # of the widest map within a stage's blocks that is computed at a time on a CPU
MIN_SIZE = 32  # pixels; below it the last stage has no interior


class FeatureInfo(NamedTuple):
    """One returned map: its channels, and how many input pixels a step of it covers."""

    channels: int
    stride: int


class PyramidBackbone(nn.Module):
    """Images in, a tuple of feature maps out, finest first.

    A subclass gives ``ARCHS`` (name to a row with ``depths`` and ``embed_dims``) and ``build``, which makes ``stem``
    and fills ``stages``; stages that no returned map needs are not built, so DDP needs no ``find_unused_parameters``.

    Args:
        arch: a name of the class's ``ARCHS``.
        out_indices: stages whose maps are returned, counted from 0; negatives count from the end. Kept ascending.
        in_chans: channels of the input.
        drop_path_rate: stochastic depth of the last block, in [0, 1); it ramps up linearly from 0 at the first.
        pretrained: what ``init_weights()`` loads: None, True (the arch's first row of the weights table), a name of
            the table, a URL or a file.
        frozen_stages: -1 none, 0 the stem, k the stem and the first k stages: no gradients, norms in eval mode.
        norm_eval: keep every BatchNorm's statistics fixed in training.
        grad_checkpointing: recompute each block in the backward pass instead of keeping its activations.

    Raises:
        UserError: an argument is out of its range; the message names it and what is allowed.
    """

    ARCHS: ClassVar[dict[str, Any]]
    STRIDES: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)  # input pixels per step of each stage's map
    SETTLED_BY_WEIGHTS: ClassVar[tuple[str, ...]] = ()  # arguments and attributes; a load settles those that are None

    def __init__(
        self,
        arch: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        in_chans: int = 3,
        drop_path_rate: float = 0.0,
        pretrained: bool | str | Path | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        grad_checkpointing: bool = False,
    ):
        super().__init__()
        if not isinstance(arch, str) or arch not in self.ARCHS:
            raise unknown(f"arch of {type(self).__name__}", arch, self.ARCHS)
        row = self.ARCHS[arch]
        num_stages = len(row.depths)
        self.arch, self.depths = arch, row.depths
        self.out_indices = resolve_out_indices(out_indices, num_stages)
        self.feature_info = [FeatureInfo(row.embed_dims[i], self.STRIDES[i]) for i in self.out_indices]
        self.in_chans = check_int("in_chans", in_chans, 1, None)
        self.frozen_stages = check_int("frozen_stages", frozen_stages, -1, num_stages)
        if not isinstance(drop_path_rate, int | float) or not 0 <= drop_path_rate < 1:
            raise UserError(f"drop_path_rate is {drop_path_rate!r}; allowed: 0 <= drop_path_rate < 1")
        for name, value in (("norm_eval", norm_eval), ("grad_checkpointing", grad_checkpointing)):
            if not isinstance(value, bool):
                raise UserError(f"{name} is {value!r}; allowed: True, False")
        self.pretrained = check_pretrained(arch, pretrained)
        self.norm_eval, self.grad_checkpointing = norm_eval, grad_checkpointing
        self.is_fused = False
        self.load_report = None  # of the last load_weights

        self.stages = nn.ModuleList()
        self.build(row, self.out_indices[-1] + 1, drop_path_rates(drop_path_rate, row.depths))
        if torch.get_default_device().type != "meta":  # where there are no values
            self.apply(self.init_module)
        self.freeze()

    def build(self, arch: Any, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        """Makes ``self.stem`` and the first ``num_stages`` of ``self.stages`` from a row of ``ARCHS``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_chans, H, W) to one (B, C_i, H_i, W_i) map per out_indices, as ``feature_info`` describes them."""
        x = self.stem(self.prepared(x))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x, self.recomputes)
            if i in self.out_indices:
                maps.append(self.output(i, x))
        return tuple(maps)

    def prepared(self, x: Tensor) -> Tensor:
        """The input, checked, in the memory format that is the fastest."""
        self.check_input(x)
        if x.device.type == "cpu":
            if not torch.compiler.is_compiling():
                keep_freed_memory()
            # The depthwise convolutions, which dominate, are several times faster with the channels last in memory
            # there. On a GPU the format is the caller's choice.
            x = x.contiguous(memory_format=torch.channels_last)
        return x

    @property
    def recomputes(self) -> bool:
        """Whether blocks compute their activations again in the backward pass."""
        return self.grad_checkpointing and self.training and torch.is_grad_enabled()

    def output(self, i: int, x: Tensor) -> Tensor:
        """The map that is returned for stage ``i``, from what the stage hands to the next one."""
        return x

    def check_input(self, x: Tensor) -> None:
        """Raises UserError unless ``x`` is (B, in_chans, H, W), B from 1 and sides from 32, of the weights' type.

        The type is not looked at where others may convert the weights or the input before a layer computes: in
        compiled graphs, in groups of processes, behind hooks, for weights on the meta device.
        """
        if not isinstance(x, Tensor):
            raise UserError(f"input is a {type(x).__name__}; allowed: a tensor (B, {self.in_chans}, H, W)")
        if x.ndim != 4 or x.shape[1] != self.in_chans or x.shape[0] == 0:
            allowed = f"(B, {self.in_chans}, H, W), B from 1, since in_chans is {self.in_chans}"
            raise UserError(f"input has shape {tuple(x.shape)}; allowed: {allowed}")
        if x.shape[2] < MIN_SIZE or x.shape[3] < MIN_SIZE:
            raise UserError(f"input is {x.shape[2]}x{x.shape[3]} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")
        weight = next(self.stem.parameters(), None)
        if torch.compiler.is_compiling() or (dist.is_available() and dist.is_initialized()):
            return
        if weight is None or weight.is_meta or any(module._forward_pre_hooks for module in self.stem.modules()):
            return
        autocast = not x.is_meta and torch.is_autocast_enabled(x.device.type)
        converted = autocast and x.dtype in (torch.float16, torch.bfloat16, torch.float32)
        if x.device != weight.device or not (x.dtype == weight.dtype or converted):
            theirs = f"{weight.dtype} on {weight.device}"
            raise UserError(f"input is {x.dtype} on {x.device}; allowed: {theirs}, as the weights are")

    def train(self, mode: bool = True) -> "PyramidBackbone":
        if mode and self.is_fused:
            raise UserError(f"{self.arch} is fused, a form for inference only; build it again to train it")
        super().train(mode)
        if mode:
            for module in self.frozen_modules():
                module.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()
        return self

    def freeze(self) -> None:
        """Takes the frozen modules out of training."""
        for module in self.frozen_modules():
            module.eval().requires_grad_(False)

    def frozen_modules(self) -> list[nn.Module]:
        """The stem and the stages that ``frozen_stages`` names."""
        return [] if self.frozen_stages < 0 else [self.stem, *self.stages[: self.frozen_stages]]

    @staticmethod
    def init_module(module: nn.Module) -> None:
        """Convolutions: normal by fan-out; linear layers: truncated normal 0.02; biases 0; norms 1 and 0."""
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def init_weights(self) -> None:
        """Loads ``pretrained`` where one was given (mmengine calls this before training, never before testing)."""
        if self.pretrained is not None:
            load_weights(self, self.pretrained)

    def arguments(self) -> dict[str, Any]:
        """The arguments with which ``create_backbone`` builds this structure as it is now, in plain types.

        What loaded weights settled is among them; how the network is trained is not.
        """
        return {"arch": self.arch, "out_indices": list(self.out_indices), "in_chans": self.in_chans}

    def match_structure(self, structure: Mapping[str, Any]) -> None:
        """Takes over what weights fix besides their tensors' values; an argument that the caller gave stays.

        A load calls this first, and undoes it where it fails. A parameter stays the same object, since an optimiser may
        know it.

        Args:
            structure: constructor's arguments that the weights were made with, e.g. ``{"norm_eps": 1e-5}``.
        """

    def fuse(self) -> "PyramidBackbone":
        """Turns the network, in place, into its inference form: batch norms and layer scales folded, same outputs."""
        if not self.is_fused:
            self.eval()  # the form that the norms are folded in
            fuse_children(self)
            self.is_fused = True
            self.eval()  # the replacements too
            self.requires_grad_(False)
        return self


class Stage(nn.Module):
    """Downsampling, blocks, and the norm that ends the stage, in this order.

    Attributes:
        width: channels of the widest map that a block makes.
    """

    def __init__(self, downsample: nn.Module, blocks: list[nn.Module], norm: nn.Module):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.width = max(len(m.weight) for m in self.blocks.modules() if isinstance(m, nn.Conv2d | nn.Linear))

    def forward(self, x: Tensor, recompute: bool = False) -> Tensor:
        """The map of the stage before to this stage's; ``recompute``: as :func:`run_block` does."""
        x = self.downsample(x)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            slices = min(len(x), -(-x.nbytes // x.shape[1] * self.width // SLICE_BYTES))
            if slices > 1 and may_slice(self):
                return torch.cat([self.run(part, recompute) for part in x.tensor_split(slices)])
        return self.run(x, recompute)

    def run(self, x: Tensor, recompute: bool) -> Tensor:
        for block in self.blocks:
            x = run_block(block, x, recompute)
        return self.norm(x)


def may_slice(stage: Stage) -> bool:
    """Whether the images of a batch may pass one after another, which keeps wide maps in the cache of a CPU.

    Not where norms take statistics of the whole batch, nor where a hook waits for it.
    """
    return not torch.jit.is_tracing() and not any(
        (m.training and isinstance(m, nn.modules.batchnorm._BatchNorm))
        or m._forward_hooks
        or m._forward_pre_hooks
        or m._backward_hooks
        or m._backward_pre_hooks
        for part in (stage.blocks, stage.norm)
        for m in part.modules()
    )


def resolve_out_indices(out_indices: Sequence[int], num_stages: int, name: str = "out_indices") -> tuple[int, ...]:
    """Stage numbers made non-negative and ascending; UserError for one out of range, repeated, or none at all."""
    allowed = f"different integers from {-num_stages} to {num_stages - 1}, at least one"
    bad = UserError(f"{name} is {out_indices!r}; allowed: {allowed}")
    if isinstance(out_indices, str) or not isinstance(out_indices, Sequence) or not out_indices:
        raise bad
    if any(isinstance(i, bool) or not isinstance(i, int) or not -num_stages <= i < num_stages for i in out_indices):
        raise bad
    resolved = tuple(sorted(i % num_stages for i in out_indices))
    if len(set(resolved)) < len(resolved):
        raise bad
    return resolved


def check_pretrained(arch: str, pretrained: bool | str | Path | None) -> str | Path | None:
    """``pretrained`` as a name, URL, path or None; UserError for anything else."""
    if pretrained is True:
        return first_name(arch)
    if pretrained is None or pretrained is False:
        return None
    if not isinstance(pretrained, str | Path) or not str(pretrained):
        raise UserError(f"pretrained is {pretrained!r}; allowed: None, True, a name of weights, a URL, a file")
    return pretrained


def check_int(name: str, value: int, low: int, high: int | None) -> int:
    """``value`` if it is an integer within ``low``..``high``; UserError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        allowed = f"integers from {low}" + (" up" if high is None else f" to {high}")
        raise UserError(f"{name} is {value!r}; allowed: {allowed}")
    return value


def run_block(block: nn.Module, x: Tensor, recompute: bool) -> Tensor:
    """``block(x)``; ``recompute`` its activations in the backward pass, rather than keep them."""
    if not recompute:
        return block(x)
    if torch.compiler.is_compiling():  # the compiler recomputes values, not the changes of statistics
        return checkpoint(block, x, use_reentrant=False)
    return checkpoint(
        block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), partial(fixed_statistics, block)())
    )


@cache
def keep_freed_memory() -> None:
    """Makes the C library keep freed memory for the next map, which else it would have to map anew, page by page.

    glibc gives blocks back as soon as they are freed, up to the size of the largest that it saw freed (32 MiB at
    most); one of 31 MiB, never touched, is therefore shown to it. A network can be twice as fast for it.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def fixed_statistics(block: nn.Module) -> Iterator[None]:
    """Batch norms compute as in training and leave their statistics alone: the first pass has counted this batch."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:  # where SyncBatchNorm has it, it wants to count
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def fuse_children(module: nn.Module) -> None:
    """Folds every descendant that knows how: ``fuse()`` changes a module in place, ``fused()`` gives a replacement."""
    for name, child in module.named_children():
        if hasattr(child, "fused"):
            setattr(module, name, child.fused())
        elif hasattr(child, "fuse"):
            child.fuse()
        else:
            fuse_children(child)
