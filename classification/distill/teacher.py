"""The frozen network whose features a student learns: a model of timm, or one of our own networks."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from backbones import WEIGHTS, UserError, create_backbone, list_archs
from backbones.checks import MIN_SIZE, check_int
from backbones.errors import shown, unknown
from backbones.registry import arch_of, family_of
from backbones.weights import statistics

TIMM = "timm:"
LONGEST = 300  # letters of a library's error that are shown
CHECKPOINTS = (".pth", ".pt", ".tar", ".bin", ".safetensors")


def build_teacher(name: str, weights: bool | str | Path = True, input_size: int | None = None) -> "Teacher":
    """The teacher of a name. Its weights are not read before ``load()``.

    Args:
        name: a model of timm, as ``"timm:vit_small_patch14_dinov2"`` or without ``timm:``; one of our archs; a name of
            our weights table; or a checkpoint of one of our networks, as a file or a URL.
        weights: True for the published weights of a model or an arch, a file with weights, or False for random ones.
        input_size: side in pixels to which the teacher's images are resized, 32 or more. None takes the size that
            timm's weights were trained with. Our own networks then see the crops as they are.

    Raises:
        UserError: the teacher or a file does not exist, or the teacher gives no feature map.
    """
    if not isinstance(name, str) or not name:
        raise UserError(f"the teacher is {shown(name)}; allowed: a model of timm, an arch, a name of weights, a file")
    if not isinstance(weights, bool | str | Path):
        raise UserError(f"the teacher's weights are {shown(weights)}; allowed: True, False, a file")
    size = input_size if input_size is None else check_int("the teacher's input_size", input_size, MIN_SIZE, None)
    if not isinstance(weights, bool) and weights not in WEIGHTS and "://" not in str(weights):
        check_file(str(weights))
    if name in list_archs():
        return OwnTeacher(name, weights, size)
    if name in WEIGHTS or "://" in name or Path(name).suffix in CHECKPOINTS or Path(name).is_file():
        if "://" not in name and name not in WEIGHTS:
            check_file(name)
        if weights is not True:
            raise UserError(f"the teacher {name} brings its weights, and weights is {weights!r}; leave weights out")
        return OwnTeacher(arch_of(name), name, size)
    model = name.removeprefix(TIMM)
    if ":" not in model and not timm.is_model(model):  # timm also takes hf-hub:OWNER/NAME and local-dir:FOLDER
        ours = [] if name.startswith(TIMM) else [*list_archs(), *WEIGHTS]
        raise unknown("teacher", name, [*ours, *(TIMM + known for known in timm.list_models())])
    return TimmTeacher(model, weights, size)


def check_file(path: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"no such checkpoint file of a teacher: {path}")


class Teacher(ABC):
    """A frozen network. ``teacher(images)`` gives its pooled features and its feature map.

    A teacher is no ``nn.Module``. So a student that holds one does not save, optimise, average or wrap it.

    Args:
        name: for messages.
        weights: as for :func:`build_teacher`.
        mean, std: the normalisation of the teacher's images, for RGB in 0..1.
        input_size: (height, width) that images are resized to; None keeps their size.

    Attributes:
        pooled_channels: length of the pooled features.
        dense_channels: channels of the feature map.
        net: the network, in eval mode and without gradients; None before ``load()``.
    """

    pooled_channels: int
    dense_channels: int

    def __init__(
        self,
        name: str,
        weights: bool | str | Path,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: tuple[int, int] | None,
    ):
        self.name, self.weights, self.input_size = name, weights, input_size
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        self.net: nn.Module | None = None

    def __str__(self) -> str:
        kind = {True: "published", False: "random"}.get(self.weights, self.weights)
        size = (
            "as large as the student's" if self.input_size is None else f"of {self.input_size[1]}x{self.input_size[0]}"
        )
        mean, std = (", ".join(f"{value:.4g}" for value in part.flatten().tolist()) for part in (self.mean, self.std))
        return f"teacher {self.name}, weights: {kind}; its images are {size}, normalised by mean ({mean}), std ({std})"

    @abstractmethod
    def create(self) -> nn.Module:
        """The network with its weights."""

    @abstractmethod
    def features(self, net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (B, 3, H, W) to pooled features (B, D) and a feature map (B, C, h, w)."""

    def load(self) -> None:
        """Builds the network and reads its weights; UserError if this fails."""
        hint = "; to load a file give it as the teacher's weights" if self.weights is True else ""
        with one_line_errors(self.name, hint), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random weights are then equal in all processes
            self.net = self.create().eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """RGB images (B, 3, H, W) in 0..1 to pooled features (B, D) and a feature map (B, C, h, w)."""
        if self.net is None:
            self.load()
        self.net.to(images.device)
        self.mean, self.std = self.mean.to(images), self.std.to(images)
        if self.input_size is not None and tuple(images.shape[2:]) != self.input_size:
            images = F.interpolate(images, self.input_size, mode="bilinear", antialias=True)
        return self.features(self.net, (images - self.mean) / self.std)


class OwnTeacher(Teacher):
    """One of our networks. Its pooled features are the mean of its last map."""

    def __init__(self, arch: str, weights: bool | str | Path, input_size: int | None):
        self.arch = arch
        with torch.device("meta"):
            channels = family_of(arch)(arch).feature_info[-1].channels
        self.pooled_channels = self.dense_channels = channels
        size = None if input_size is None else (input_size, input_size)
        super().__init__(arch, weights, *statistics(arch, weights)[:2], size)

    def create(self) -> nn.Module:
        return create_backbone(self.arch, pretrained=self.weights, out_indices=(-1,))

    def features(self, net, images):
        last = net(images)[-1]
        return last.mean(dim=(2, 3)), last


class TimmTeacher(Teacher):
    """A model of timm. Pooled features are what its classifier would read, tokens without a place left out of the map.

    Args:
        model: a name for ``timm.create_model``.
        weights: True for timm's weights, False for random ones, or a file that fits the model.
        input_size: side in pixels, or None for the size that the model's weights were trained with.
    """

    def __init__(self, model: str, weights: bool | str | Path, input_size: int | None):
        self.model, self.weights, self.side = model, weights, input_size
        with one_line_errors(model), torch.device("meta"):
            net = self.structure(pretrained=False).eval()
            trained = resolve_model_data_config(net)
        size = tuple(trained["input_size"][1:]) if input_size is None else (input_size, input_size)
        super().__init__(TIMM + model, weights, trained["mean"], trained["std"], size)
        with one_line_errors(model):
            pooled, dense = self.features(net, torch.empty(1, 3, *size, device="meta"))
        self.pooled_channels, self.dense_channels = pooled.shape[1], dense.shape[1]

    def create(self) -> nn.Module:
        return self.structure(pretrained=self.weights is not False)

    def structure(self, pretrained: bool) -> nn.Module:
        file = None if isinstance(self.weights, bool) else dict(file=str(self.weights))
        net = timm.create_model(self.model, pretrained=pretrained, pretrained_cfg_overlay=file)
        if self.side is not None and hasattr(net, "set_input_size"):  # models that fix the size of their images
            net.set_input_size(img_size=(self.side, self.side))
        return net

    def features(self, net, images):
        found = net.forward_features(images)
        dense = self.as_map(net, found, images.shape[2] / images.shape[3])
        return net.forward_head(found, pre_logits=True).flatten(1), dense

    def as_map(self, net: nn.Module, found: Tensor, aspect: float) -> Tensor:
        """What ``forward_features`` gives, as (B, C, h, w); UserError if it has no places.

        Args:
            net: the model.
            found: (B, C, h, w), (B, h, w, C), or tokens (B, N, C).
            aspect: height / width of the images.
        """
        if isinstance(found, Tensor) and found.ndim == 4:
            return found.permute(0, 3, 1, 2) if getattr(net, "output_fmt", "NCHW") == "NHWC" else found
        if isinstance(found, Tensor) and found.ndim == 3:
            tokens = found[:, getattr(net, "num_prefix_tokens", 0) :]
            rows = max(1, round((tokens.shape[1] * aspect) ** 0.5))
            columns = tokens.shape[1] // rows
            if rows * columns == tokens.shape[1]:
                return tokens.transpose(1, 2).unflatten(2, (rows, columns))
        raise UserError(
            f"teacher {self.name} gives no feature map; allowed: models of timm whose forward_features gives a map "
            "(B, C, H, W), or a token for each place"
        )


@contextlib.contextmanager
def one_line_errors(name: str, hint: str = "") -> Iterator[None]:
    """Turns any error of the block, which runs code of a thousand models, into a UserError that names the teacher."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:LONGEST]
        raise UserError(f"teacher {name} cannot be used: {type(error).__name__}: {reason}{hint}") from error
