"""The classifier: a backbone, its head, its loss, and the preprocessing of batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn

from backbones import PyramidBackbone, UserError, load_weights
from backbones.checks import check_int
from backbones.errors import unknown
from backbones.heads import build_head
from backbones.registry import arch_of, build_backbone
from backbones.weights.source import head_rows, open_source
from backbones.weights.table import check_pretrained
from classification.augmentation import check_erasing, check_mixup, check_share
from classification.pretrained import check_classes, fit_head, load_pretrained, rows_of, starts_fresh
from ziggurat.engine.focal import focal_cross_entropy

# The values of the option ``loss``.
CRITERIA = {"cross_entropy": "cross_entropy", "focal": "focal"}


def create_classifier(
    arch: str | None = None,
    num_classes: int | None = None,
    pretrained: bool | str | Path | Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> "Classifier":
    """Builds a classifier and, where ``pretrained`` is given, loads backbone and head.

    Args:
        arch: one of ``backbones.list_archs()``. None takes the arch of the weights.
        num_classes: size of the output. If the head of ``pretrained`` has another size, the head starts fresh, with a
            warning. None takes the size of an own checkpoint, and 1000 otherwise.
        pretrained: True (the arch's first row of the weights table), a name of the table, a URL, a file, or a state
            dict or checkpoint in memory.
        **kwargs: arguments of the backbone (in_chans, drop_path_rate, frozen_stages, norm_eval, grad_checkpointing,
            which) and of the arch's class. An own checkpoint supplies the structure arguments that are not given.

    Returns:
        The classifier, in training mode.

    Raises:
        UserError: the arch is unknown, an argument is out of range, or the weights do not fit.
    """
    for option in ("out_indices", "out_blocks"):
        if option in kwargs:
            raise UserError(f"a classifier reads the last map only; {option} belongs to create_backbone")
    arch = arch_of(pretrained, kwargs.get("which")) if arch is None else arch
    weights = pretrained if isinstance(pretrained, Mapping) else check_pretrained(arch, pretrained)
    backbone = build_backbone(arch, weights, out_indices=(-1,), **kwargs)
    if num_classes is None:
        num_classes = (weights is not None and own_classes(backbone, weights)) or 1000
    clf = Classifier(backbone, num_classes)
    if weights is not None:
        load_weights(clf, weights, which=backbone.which)
    return clf


def own_classes(backbone: PyramidBackbone, weights: str | Path | Mapping[str, Any]) -> int | None:
    """The number of classes in an own checkpoint; None for other weights."""
    opened = open_source(backbone.arch, backbone.ARCHS[backbone.arch], weights, ahead=True)
    return head_rows(opened) if opened.own else None


class Classifier(BaseModel):
    """Backbone and head. ``clf(x)`` gives logits: (B, in_chans, H, W) to (B, num_classes).

    Args:
        backbone: a backbone, or its config ``dict(type="Backbone", arch=...)``. Its ``pretrained`` also fills the head.
        num_classes: size of the output, 1 or more.
        label_smoothing: of the training targets, in [0, 1).
        mixup: arguments of ``timm.data.Mixup`` (mixup_alpha, cutmix_alpha, prob, switch_prob, mode), or None.
        head_init_scale: factor on the initial weights of the layer that gives the logits.
        class_map: how a head of other classes is taken from the backbone's ``pretrained``, as for ``class_rows``.
        reset_head: start with a new head, whatever ``pretrained`` or ``load_from`` hold.
        data_preprocessor: config of the module that turns uint8 batches into the backbone's input.
        criterion: ``"cross_entropy"``, or ``"focal"`` for the loss of ``ziggurat.engine.focal``.
        class_weight: a number from 0 up for each class, as for PyTorch's cross entropy.

    Attributes:
        class_names: of the training data, in the order of the outputs. ``ziggurat.engine.run`` sets them. A
            checkpoint of other classes is then refused. None compares nothing.

    Raises:
        UserError: an argument is out of range, or both ``class_map`` and ``reset_head`` are given.
    """

    def __init__(
        self,
        backbone: PyramidBackbone | dict[str, Any],
        num_classes: int = 1000,
        label_smoothing: float = 0.0,
        mixup: dict[str, Any] | None = None,
        head_init_scale: float = 1.0,
        class_map: str | None = None,
        reset_head: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        criterion: str = "cross_entropy",
        class_weight: Sequence[float] | None = None,
    ):
        super().__init__(data_preprocessor)
        if not isinstance(backbone, nn.Module):
            last = {} if "out_blocks" in backbone else {"out_indices": (-1,)}
            backbone = MODELS.build({**last, **backbone})
        self.num_classes = check_int("num_classes", num_classes, 1, None)
        self.label_smoothing = check_share("model.label_smoothing", label_smoothing, below=True)
        mixup = check_mixup(mixup)
        self.mixup = mixup and Mixup(**mixup, label_smoothing=label_smoothing, num_classes=num_classes)
        self.backbone = backbone
        self.head = build_head(backbone, num_classes, head_init_scale)
        if class_map is not None and reset_head:
            raise UserError(f"class_map={class_map!r} and reset_head exclude each other; leave one out")
        if criterion not in CRITERIA:
            raise unknown("model.criterion", criterion, CRITERIA)
        if class_weight is not None and len(class_weight) != num_classes:
            raise UserError(f"model.class_weight has {len(class_weight)} values; allowed: {num_classes}, one a class")
        self.criterion = criterion
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.class_names: Sequence[str] | None = None
        self.class_map = class_map
        self.reset_head = reset_head

    def forward(self, inputs: Tensor, data_samples: Tensor | None = None, mode: str = "tensor") -> Any:
        """Logits, losses or predictions of a preprocessed batch.

        Args:
            inputs: (B, in_chans, H, W), normalised.
            data_samples: class indices (B,), needed for ``"loss"``.
            mode: ``"tensor"`` gives logits (B, num_classes). ``"loss"`` gives ``dict(loss=scalar)``. ``"predict"``
                gives a dict per image: ``scores`` (num_classes,) with sum 1, ``pred_label``, and ``label`` or None.
        """
        if mode == "loss":
            return {"loss": self.loss(inputs, data_samples)}
        logits = self.head(self.backbone(inputs)[-1])
        if mode == "tensor":
            return logits
        return predictions(logits, [None] * len(inputs) if data_samples is None else data_samples.tolist())

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The criterion with smoothed targets; with ``mixup`` images and targets are mixed.

        Raises:
            UserError: ``mixup`` gets a batch of an odd number of images.
        """
        smoothing = self.label_smoothing
        if self.mixup:
            if len(inputs) % 2:
                raise UserError(
                    f"batch of {len(inputs)} images; allowed with mixup: an even batch_size, drop_last=True"
                )
            inputs, labels = self.mixup(inputs, labels)
            smoothing = 0.0  # timm has smoothed the mixed targets
        logits = self.head(self.backbone(inputs)[-1])
        return self.compared(logits.float(), labels, smoothing)

    def compared(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """The loss of logits and targets, a mean over images by the rule of PyTorch's cross entropy.

        With class indices, the weights of a batch's classes divide the sum; with mixed targets, the number of images.
        """
        weight = self.class_weight
        if weight is not None and not labels.is_floating_point() and not weight[labels].any():
            return logits.sum() * 0  # no image counts
        if self.criterion == "cross_entropy":
            return F.cross_entropy(logits, labels, weight, label_smoothing=smoothing)
        total = len(labels) if weight is None or labels.is_floating_point() else weight[labels].sum()
        if smoothing:
            labels = smoothed(labels, self.num_classes, smoothing)
        return focal_cross_entropy(logits, labels, weight=weight).sum() / total

    def init_weights(self, exact: bool = False) -> None:
        """Loads the backbone's ``pretrained``, its head included. Arguments and errors as for ``load_pretrained``."""
        if self.backbone.pretrained is not None:
            load_pretrained(self, self.backbone.pretrained, exact)

    def fit_state(
        self, state: Mapping[str, Tensor], source: str, classes: Sequence[str] | None = None, exact: bool = False
    ) -> Mapping[str, Tensor]:
        """The state dict of another classifier with a head for this one's classes.

        ``ziggurat.engine.checkpoints.load_state`` calls this method.

        Args:
            state: the state dict.
            source: its file's name in messages.
            classes: the class names of the file; None if it does not tell.
            exact: the file must fit as it is, since a run is resumed or tested.

        Raises:
            UserError: the file has other classes, as in ``fit_head``, or with ``exact`` another number of them.
        """
        if exact:
            starts_fresh(self, rows_of(state), source, exact)
            if classes is not None:
                check_classes(self, classes, source)
            return state
        return fit_head(self, state, {name: name for name in state}, source, classes)


def predictions(logits: Tensor, labels: Sequence[int | None]) -> list[dict[str, Any]]:
    """What ``mode="predict"`` gives for each image, from logits (B, num_classes) and the true classes, if known."""
    found = zip(logits.float().softmax(dim=1), logits.argmax(dim=1).tolist(), labels, strict=True)
    return [{"scores": scores, "pred_label": best, "label": label} for scores, best, label in found]


def smoothed(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Targets (B, num_classes) of class indices (B,): ``smoothing`` of each goes to all classes alike."""
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


class BatchPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the model's device, normalises, and in training erases random rectangles.

    uint8 RGB (B, 3, H, W) becomes float32 (x / 255 - mean) / std. A list of batches, as of several crops of each image,
    becomes such a list.

    Args:
        mean, std: of each channel of an image in 0..1.
        random_erasing: arguments of timm's ``RandomErasing`` (probability, mode, max_count), or None.

    Raises:
        UserError: images have another number of channels than ``mean``, or an argument of ``random_erasing`` is wrong.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        random_erasing: dict[str, Any] | None = None,
    ):
        super().__init__(non_blocking=True)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)
        self.random_erasing = check_erasing(random_erasing)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        data = self.cast_data(data)
        inputs = data["inputs"]
        is_list = isinstance(inputs, list)
        prepared = [self.prepared(images, training) for images in (inputs if is_list else [inputs])]
        return {**data, "inputs": prepared if is_list else prepared[0]}

    def prepared(self, images: Tensor, training: bool) -> Tensor:
        found, wanted = images.shape[1], len(self.mean)
        if wanted not in (1, found):
            raise UserError(f"images have {found} channels; allowed: {wanted}, as data_preprocessor.mean has")
        images = (images.float() - self.mean) / self.std
        if training and self.random_erasing:
            images = RandomErasing(**self.random_erasing, device=images.device)(images)
        return images
