"""The contract of all networks, PyramidBackbone, and the Stage that they are made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from backbones import checks, cpu
from backbones.errors import UserError, arguments_of, unknown
from backbones.fuse import fuse_children
from backbones.layers import drop_path_rates
from backbones.memory_format import in_format_of
from backbones.weights.load import load_weights
from backbones.weights.network import NETWORKS
from backbones.weights.table import check_pretrained


class FeatureInfo(NamedTuple):
    """One returned map: its channels, and its stride: the input pixels from one position to the next."""

    channels: int
    stride: int


class PyramidBackbone(nn.Module):
    """Images in, a tuple of feature maps out, finest first.

    A subclass gives ``ARCHS`` (arch -> row with ``depths`` and ``embed_dims``) and ``build``, which makes ``stem`` and
    fills ``stages``. Stages that no returned map needs are not built. So DDP needs no ``find_unused_parameters``.

    Args:
        arch: a name of the class's ``ARCHS``.
        out_indices: stages whose maps are returned, counted from 0. Negatives count from the end. Kept ascending.
        in_chans: channels of the input, 1 to 4096.
        drop_path_rate: stochastic depth of the last block, in [0, 1). The rate rises linearly from 0 at the first.
        pretrained: the weights that ``init_weights()`` loads: None, True (the arch's first row of the weights table), a
            name of the table, a URL or a file.
        frozen_stages: how much is frozen: no gradients, norms in eval mode. -1: nothing; 0: the stem; k: the stem and
            the first k stages.
        norm_eval: keep every BatchNorm's statistics fixed in training.
        grad_checkpointing: recompute each block in the backward pass instead of keeping its activations.
        init_cfg: mm's form of ``pretrained``: ``dict(type="Pretrained", checkpoint=...)``. If the file holds several
            networks, ``prefix`` is the beginning of the names to take, e.g. ``"backbone."``.
        which: chooses between several sets of weights in that file: ``"ema"`` (averaged weights), ``"raw"`` (the
            others), or the name of an entry. None takes the averaged ones where there are some.

    Raises:
        UserError: an argument is unknown or out of its range. The message names it and the values allowed.
    """

    ARCHS: ClassVar[dict[str, Any]]
    STRIDES: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)  # input pixels per step of each stage's map
    SETTLED_BY_WEIGHTS: ClassVar[tuple[str, ...]] = ()  # arguments that a load settles if they are None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        NETWORKS.append(cls)

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
        init_cfg: dict[str, Any] | None = None,
        which: str | None = None,
        **others: Any,
    ):
        super().__init__()
        if others:
            raise self.does_not_take(others)
        if not isinstance(arch, str) or arch not in self.ARCHS:
            raise unknown(f"arch of {type(self).__name__}", arch, self.ARCHS)
        row = self.ARCHS[arch]
        num_stages = len(row.depths)
        self.arch, self.depths = arch, row.depths
        self.out_indices = checks.resolve_out_indices(out_indices, num_stages)
        self.feature_info = [FeatureInfo(row.embed_dims[i], self.STRIDES[i]) for i in self.out_indices]
        self.in_chans = checks.check_int("in_chans", in_chans, 1, checks.MAX_CHANS)
        self.frozen_stages = checks.check_int("frozen_stages", frozen_stages, -1, num_stages)
        self.norm_eval = checks.check_flag("norm_eval", norm_eval)
        checkpoint, self.pretrained_prefix = checks.check_init_cfg(init_cfg)
        if checkpoint is not None and pretrained is not None:
            raise UserError(f"pretrained is {pretrained!r} and init_cfg {init_cfg!r}; allowed: one of them")
        self.pretrained = check_pretrained(arch, pretrained if checkpoint is None else checkpoint)
        self.which = checks.check_which(which)
        self.is_fused = False
        self.load_report = None  # of the last load_weights

        self.stages = nn.ModuleList()
        rates = drop_path_rates(checks.check_rate("drop_path_rate", drop_path_rate), row.depths)
        self.build(row, self.out_indices[-1] + 1, rates)
        self.grad_checkpointing = grad_checkpointing
        if torch.get_default_device().type != "meta":  # meta tensors have no values
            self.apply(self.init_module)
        self.freeze()

    @classmethod
    def does_not_take(cls, others: dict[str, Any]) -> UserError:
        """The error for arguments that the network does not have."""
        allowed = ", ".join([name for name in arguments_of(cls) if name != "arch"])
        inherited = "a config that inherits another backbone's keys drops them by _delete_=True in its backbone"
        return UserError(
            f"unknown argument of {cls.__name__}: {', '.join(map(repr, others))}; allowed: {allowed}; {inherited}"
        )

    def build(self, arch: Any, num_stages: int, drop_path_rates: list[list[float]]) -> None:
        """Makes ``self.stem`` and the first ``num_stages`` of ``self.stages`` from a row of ``ARCHS``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_chans, H, W) to one (B, C_i, H_i, W_i) map per out_indices, described by ``feature_info``.

        The maps have the memory format of ``x``: contiguous, or with the channels last.

        Raises:
            UserError: ``x`` has another shape, type or device than the network takes.
        """
        return self.maps_of(x, self.out_indices)

    def maps_of(self, x: Tensor, stages: Sequence[int]) -> tuple[Tensor, ...]:
        """The maps of some of the stages that are built, as of ``forward``, whatever ``out_indices`` are.

        Args:
            x: as for ``forward``.
            stages: numbers of stages from 0, ascending. Later stages do not run.
        """
        image, x = x, self.stem(self.prepared(x))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in stages:
                maps.append(in_format_of(image, self.output(i, x)))
            if i == stages[-1]:
                break
        return tuple(maps)

    def prepared(self, x: Tensor) -> Tensor:
        """Checks the input, and returns it in the fastest memory format."""
        checks.check_input(x, self.in_chans, self.stem)
        cpu.keep_freed_memory(x)
        return cpu.in_fast_format(x)

    @property
    def grad_checkpointing(self) -> bool:
        """Whether the backward pass computes the activations of blocks again. Can be set."""
        return any(getattr(stage, "grad_checkpointing", False) for stage in self.stages)

    @grad_checkpointing.setter
    def grad_checkpointing(self, value: bool) -> None:
        checks.check_flag("grad_checkpointing", value)
        for stage in self.stages:
            stage.grad_checkpointing = value

    def output(self, i: int, x: Tensor) -> Tensor:
        """The map that is returned for stage ``i``, from the stage's output ``x``."""
        return x

    def train(self, mode: bool = True) -> "PyramidBackbone":
        checks.check_flag("mode", mode)
        if mode and self.is_fused:
            raise UserError(f"{self.arch} is fused, a form for inference only; build the network again to train")
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
        """Switches the frozen modules to eval mode, and their gradients off."""
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
        """Loads ``pretrained`` if it is given. mmengine calls this before training, never before testing."""
        if self.pretrained is not None:
            load_weights(self, self.pretrained, which=self.which, prefix=self.pretrained_prefix)

    def arguments(self) -> dict[str, Any]:
        """The arguments with which ``create_backbone`` builds this structure as it is now, in plain types.

        Arguments that loaded weights settled are included. Arguments of training, such as drop_path_rate, are not.
        """
        return {"arch": self.arch, "out_indices": list(self.out_indices), "in_chans": self.in_chans}

    def match_structure(self, structure: Mapping[str, Any]) -> None:
        """Takes over the structure of weights. An argument that the constructor's caller gave stays.

        A load calls this first, and undoes it if the load fails. A parameter stays the same object, since an optimiser
        may hold it.

        Args:
            structure: the constructor's arguments that belong to the weights, e.g. ``{"norm_eps": 1e-5}``.
        """

    def fitted(self, name: str, stored: Tensor, target: Tensor) -> Tensor:
        """A stored tensor as the network takes it. A network that can resize a tensor overrides this.

        Args:
            name: the tensor's name in the network.
            stored: its values in the weights.
            target: the network's own tensor.
        """
        return stored

    def fuse(self) -> "PyramidBackbone":
        """Folds batch norms and layer scales into convolutions, in place. Outputs stay the same up to rounding.

        A fused network cannot be trained or loaded.
        """
        if not self.is_fused:
            self.eval()
            fuse_children(self)
            self.is_fused = True
            self.eval()  # replaced modules start in training mode
            self.requires_grad_(False)
        return self
