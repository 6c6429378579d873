"""All networks in timm's registry: ``import backbones.timm``, then ``timm.create_model("van_b2", features_only=True)``.

The models have the methods and attributes of timm's own. Weights are read as everywhere here: completely, or not at
all. This module alone imports timm.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch.nn.functional as F
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    get_pretrained_cfg,
    register_model,
    resolve_pretrained_cfg,
)
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from backbones.checks import check_int
from backbones.errors import UserError, arguments_of
from backbones.heads import build_head, linear
from backbones.registry import create_backbone, family_of, list_archs
from backbones.weights import WEIGHTS, load_weights
from backbones.weights.table import FAMILY_EVALUATION, FAMILY_INPUT, Weights

__all__ = ["TimmModel"]

POOLS = ("avg", "")
NOT_TIMMS = ("arch", "weights", "pretrained", "init_cfg", "which")  # arguments that timm gives, or has no use for
FIRST_CONVOLUTIONS = {"van": "conv", "hornet": "0", "pvig": "convs.0.conv", "vig": "convs.0.conv", "vvt": "conv"}
# Classes of heads that were trained on ImageNet-22K. HorNet's authors took the 10450 of ImageNet-21K-P and 9 more. That
# of PViG is the usual one: its authors do not say. A file with another head keeps all but the head, with a warning.
LARGER_HEADS = {"van": 21841, "hornet": 10459, "pvig": 21841}


class TimmModel(nn.Module):
    """A backbone and its family's head, with the protocol of timm's models.

    Its state dict is that of a classifier of this project, so checkpoints of one load into the other.

    Args:
        arch: one of ``backbones.list_archs()``.
        num_classes: size of the output; 0 leaves out the layer of the logits.
        in_chans: channels of the input.
        global_pool: ``"avg"``, or ``""`` for maps instead of a vector, without a head.
        drop_rate: dropout before the layer of the logits.
        weights: what ``backbones.load_weights`` takes, loaded at once; None starts from random weights.
        **options: of the backbone, such as ``drop_path_rate`` and ``grad_checkpointing``.

    Raises:
        UserError: an argument is out of range, or the weights do not fit.
    """

    def __init__(
        self,
        arch: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        weights: Any = None,
        **options: Any,
    ):
        super().__init__()
        check_options(arch, options)
        check_int("num_classes", num_classes, 0, None)
        self.backbone = create_backbone(arch, in_chans=in_chans, **options)
        self.in_chans, self.drop_rate = in_chans, drop_rate
        self.num_features = self.backbone.feature_info[-1].channels
        self.feature_info = [
            dict(num_chs=info.channels, reduction=info.stride, module=f"backbone.stages.{i}")
            for i, info in enumerate(self.backbone.feature_info)
        ]
        self.head = build_head(self.backbone, max(num_classes, 1))
        self.head_hidden_size = self.get_classifier().in_features
        if weights is not None:
            load_weights(self, weights)
        self.num_classes, self.global_pool = num_classes, checked_pool(global_pool)
        if num_classes == 0:
            self.reset_classifier(0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, num_classes); without classes to (B, head_hidden_size), or to the last map."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's map (B, num_features, H', W')."""
        return self.backbone.maps_of(x, (len(self.backbone.stages) - 1,))[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map to logits; with ``pre_logits`` to the input of the layer of the logits."""
        if not self.global_pool or isinstance(self.head, nn.Identity):
            return x
        x = F.dropout(self.head.features(x), self.drop_rate, self.training)
        return x if pre_logits else self.get_classifier()(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of stages, and, unless ``intermediates_only``, the last map before them.

        Args:
            x: (B, in_chans, H, W).
            indices: stages by number, the last so many, or None for all.
            norm: has no effect: the maps are those that ``backbones`` gives.
            stop_early: leave out stages after the last of ``indices``, with ``intermediates_only``.
            output_fmt: ``"NCHW"``.
            intermediates_only: return the maps alone.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt is {output_fmt!r}; allowed: 'NCHW'")
        wanted, last = feature_take_indices(len(self.backbone.stages), indices)
        if intermediates_only:
            return [*self.backbone.maps_of(x, sorted({*wanted} if stop_early else {*wanted, last}))]
        maps = self.backbone.maps_of(x, range(len(self.backbone.stages)))
        return maps[-1], [maps[i] for i in wanted]

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the stages after the last of ``indices``, and the head. Returns the stages by number."""
        wanted, last = feature_take_indices(len(self.backbone.stages), indices)
        self.backbone.stages = self.backbone.stages[: last + 1]
        self.backbone.out_indices = tuple(i for i in self.backbone.out_indices if i <= last)
        self.backbone.feature_info = self.backbone.feature_info[: last + 1]
        if prune_head:
            self.head, self.num_classes = nn.Identity(), 0
        return wanted

    def get_classifier(self) -> nn.Module:
        """The layer of the logits."""
        return getattr(self.head, self.head.LAST)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new layer of the logits, with random weights; 0 classes take the layer away."""
        if global_pool is not None:
            self.global_pool = checked_pool(global_pool)
        like = next(self.backbone.parameters())
        new = linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        setattr(self.head, self.head.LAST, new.to(like.device, like.dtype))
        self.num_classes = num_classes

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of names that group parameters by depth: by stage, or by block, as for layer-wise rates."""
        stages = r"^backbone\.stages\.(\d+)"
        blocks = [(rf"{stages}\.downsample", (0,)), (rf"{stages}\.blocks\.(\d+)", None), (rf"{stages}\.norm", (99999,))]
        return {"stem": r"^backbone\.stem", "blocks": stages if coarse else blocks}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether blocks are computed again in the backward pass, to save memory."""
        self.backbone.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, beside biases, norms and layer scales."""
        return {name for name, _ in self.named_parameters() if "pos_embed" in name}


def check_options(arch: str, options: Collection[str]) -> None:
    """Raises UserError for an argument of ``timm.create_model`` that the arch does not take."""
    taken = arguments_of(family_of(arch))
    for name in options:
        if name not in taken:
            allowed = [*arguments_of(TimmModel), *taken]
            allowed = ", ".join(one for one in dict.fromkeys(allowed) if one not in NOT_TIMMS)
            hint = f"; images have any size, without {name}" if name == "img_size" else ""
            raise UserError(f"unknown argument of {arch}: {name!r}; allowed: {allowed}{hint}")


def checked_pool(pool: str) -> str:
    if pool not in POOLS:
        raise UserError(f"global_pool is {pool!r}; allowed: 'avg', or '' for maps")
    return pool


def entry_of(arch: str) -> Callable[..., nn.Module]:
    """The function that timm calls for ``create_model(arch, ...)``."""

    def entry(pretrained: bool = False, **options: Any) -> nn.Module:
        cfg = resolve_pretrained_cfg(arch, options.get("pretrained_cfg"), options.get("pretrained_cfg_overlay"))
        is_timms = cfg.source in ("hf-hub", "local-dir")  # a model that timm saved, and reads itself
        if pretrained and not is_timms:
            name = f"{arch}.{cfg.tag}"
            given = None if cfg.url == get_pretrained_cfg(name).url else cfg.url  # by an overlay
            options["weights"] = cfg.state_dict or cfg.file or given or name
        features = dict(out_indices=(0, 1, 2, 3), feature_cls="getter")
        return build_model_with_cfg(
            TimmModel, arch, pretrained and is_timms, feature_cfg=features, arch=arch, **options
        )

    entry.__name__ = entry.__qualname__ = arch
    entry.__doc__ = f"``{arch}`` of ``backbones``, see :class:`TimmModel`."
    return entry


def cfg_of(arch: str, weights: Weights | None, tag: str) -> dict[str, Any]:
    """timm's description of weights: their address, and the images that they take."""
    family = family_of(arch).__name__.lower()
    evaluation = (weights and weights.evaluation) or FAMILY_EVALUATION[family]
    images = weights.input if weights else FAMILY_INPUT[family]
    return dict(
        url=(weights.urls[0] if weights.urls else weights.page) if weights else "",
        num_classes=1000 if tag in ("", "in1k") else LARGER_HEADS[family],
        input_size=(3, evaluation.input_size, evaluation.input_size),
        min_input_size=(3, 32, 32),
        crop_pct=evaluation.crop_pct,
        crop_mode=evaluation.crop_mode,
        interpolation=evaluation.interpolation,
        mean=images.mean,
        std=images.std,
        first_conv=f"backbone.stem.{FIRST_CONVOLUTIONS[family]}",
        classifier="head.fc2" if family in ("vig", "pvig") else "head.fc",
        license=weights.terms.licence if weights else None,
        origin_url=f"https://github.com/{weights.terms.origin}" if weights else None,
    )


default_cfgs = generate_default_cfgs(
    {arch: cfg_of(arch, None, "") for arch in list_archs()}
    | {name: cfg_of(name.split(".")[0], weights, name.split(".")[1]) for name, weights in WEIGHTS.items()}
)
for arch in list_archs():
    globals()[arch] = register_model(entry_of(arch))
