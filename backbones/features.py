"""FeatureExtractor: the user's images in, an aligned feature pyramid out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from backbones.checks import MIN_SIZE
from backbones.errors import UserError
from backbones.images import known_range, read_image, to_rgb
from backbones.registry import arch_of, create_backbone, family_of
from backbones.weights import Statistics, statistics

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


class FeaturePyramid(tuple):
    """One (B, C_i, H_i, W_i) map per out_indices, finest first. B counts the images.

    The other images of a batch do not change an image's maps. If sizes differ, an image fills the upper left part of
    its maps, and the rest is 0.

    Attributes:
        image_sizes: (height, width) in pixels of each image, after resizing.
        map_sizes: (H, W) of the part that an image fills in a map, as [map][image].
    """

    image_sizes: list[tuple[int, int]]
    map_sizes: list[list[tuple[int, int]]]

    def of(self, image: int) -> tuple[Tensor, ...]:
        """The (C_i, h_i, w_i) maps of one image, by its number in the batch, without the empty part."""
        return tuple(m[image, :, :h, :w] for m, (h, w) in zip(self, (s[image] for s in self.map_sizes), strict=True))


class FeatureExtractor:
    """A backbone in eval mode with the preprocessing that its weights expect.

    Args:
        arch: one of ``list_archs()``. None takes the arch of ``pretrained``.
        out_indices: the stages whose maps are returned, counted from 0.
        pretrained: as for ``create_backbone``. None gives random weights.
        device: where to compute, ``"cpu"`` by default.
        dtype: the type of weights and maps, e.g. ``torch.bfloat16``; float32 by default.
        fuse: fold norms into convolutions. This is faster, and changes maps by less than 1e-4 (on a GPU: with TF32
            switched off).
        short_side: resize each image so that its shorter side has this number of pixels. None keeps the size.
        mean, std: normalisation of each channel of an image in 0..1. Default: the values that the weights were trained
            with, see ``backbones.weights.statistics``.
        **kwargs: further arguments of ``create_backbone``.

    Attributes:
        statistics: mean and std in use. ``statistics.source`` says where they come from.

    Raises:
        UserError: as ``create_backbone``; also for a device that is not available.
    """

    def __init__(
        self,
        arch: str | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool | str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        fuse: bool = True,
        short_side: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        self.device, self.dtype = check_device(device or "cpu"), dtype or torch.float32
        arch = arch_of(pretrained) if arch is None else arch
        family_of(arch)
        # Statistics come first: a file that is read for them is kept for create_backbone.
        published = statistics(arch, pretrained)
        net = create_backbone(arch, out_indices=out_indices, pretrained=pretrained, **kwargs)
        self.net = (net.fuse() if fuse else net).eval().requires_grad_(False).to(self.device, self.dtype)
        self.feature_info = net.feature_info
        self.statistics = chosen_statistics(mean, std, published.for_channels(net.in_chans))
        self.mean, self.std = (torch.tensor(values, device=self.device) for values in self.statistics[:2])
        if {len(self.mean), len(self.std)} != {net.in_chans}:
            raise UserError(f"mean and std have {len(self.mean)} and {len(self.std)} values; allowed: {net.in_chans}")
        self.short_side = short_side

    def __repr__(self) -> str:
        return f"FeatureExtractor({self.net.arch}, out_indices={self.net.out_indices}, {self.statistics})"

    @torch.no_grad()  # not inference_mode: no head can be trained on its tensors
    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> FeaturePyramid:
        """Computes the maps.

        Args:
            images: one image or a list of images of any sizes from 32x32 pixels up. An image is a path, a PIL image, an
                array (H, W, C) or (H, W), or a tensor (C, H, W). One tensor (B, C, H, W) is B images. Channels are
                RGB. Integers are 0..255, uint16 0..65535, floats 0..1.

        Raises:
            UserError: an image cannot be read, is too small, or has another shape or range.
        """
        if isinstance(images, Tensor) and images.ndim == 4:
            images = list(images)
        elif isinstance(images, ImageLike):
            images = [images]
        if not images:
            raise UserError("no images were given; allowed: one or more")
        tensors = [self.prepare(image) for image in images]
        sizes = [tuple(t.shape[1:]) for t in tensors]
        maps = [[] for _ in tensors]
        for size in dict.fromkeys(sizes):  # images of one size make one batch
            members = [i for i, other in enumerate(sizes) if other == size]
            for level in self.net(torch.stack([tensors[i] for i in members])):
                for i, row in zip(members, level, strict=True):
                    maps[i].append(row)
        pyramid = FeaturePyramid(stack_padded(list(level)) for level in zip(*maps, strict=True))
        pyramid.image_sizes = sizes
        pyramid.map_sizes = [[tuple(m.shape[1:]) for m in level] for level in zip(*maps, strict=True)]
        return pyramid

    def prepare(self, image: ImageLike) -> Tensor:
        """One image as the network's input: (C, H, W), resized, normalised, on the device."""
        name = "image"
        if isinstance(image, str | Path):
            name, image = str(image), read_image(image)
        if isinstance(image, Image.Image):
            image = np.array(to_rgb(image, name) if self.net.in_chans == 3 else image)
        if isinstance(image, np.ndarray):
            image = image[:, :, None].repeat(self.net.in_chans, 2) if image.ndim == 2 else image
            image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) if image.ndim == 3 else image
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != self.net.in_chans:
            got = tuple(getattr(image, "shape", ())) or type(image).__name__
            raise UserError(f"{name} is {got}; allowed: a path, a PIL image, or {self.net.in_chans} channels by H by W")
        image = known_range(image, name)
        scale = 1.0 if image.is_floating_point() else 255.0
        image = image.to(self.device, torch.float32) / scale
        if self.short_side:
            ratio = self.short_side / min(image.shape[1:])
            size = [round(side * ratio) for side in image.shape[1:]]
            image = F.interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        height, width = image.shape[1:]
        if min(height, width) < MIN_SIZE:
            raise UserError(f"{name} is {height}x{width} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")
        return ((image - self.mean[:, None, None]) / self.std[:, None, None]).to(self.dtype)


def check_device(device: str | torch.device) -> torch.device:
    """The device; UserError if this machine does not have it."""
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError):
        have = "cpu" + (f", cuda:0 to cuda:{n - 1}" if (n := torch.cuda.device_count()) else "")
        raise UserError(f"device {str(device)!r} is not available; allowed here: {have}") from None


def chosen_statistics(mean: Sequence[float] | None, std: Sequence[float] | None, published: Statistics) -> Statistics:
    """The given mean and std, completed by those of the weights."""
    if mean is None and std is None:
        return published
    source = "given" if mean and std else f"{'std' if mean is None else 'mean'} {published.source}, the other given"
    return Statistics(tuple(mean or published.mean), tuple(std or published.std), source)


def stack_padded(maps: list[Tensor]) -> Tensor:
    """B maps (C, h, w) to one (B, C, H, W), padded with 0 at the right and at the bottom."""
    height, width = (max(m.shape[axis] for m in maps) for axis in (1, 2))
    return torch.stack([F.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in maps])


def pca_colours(feature_map: Tensor) -> np.ndarray:
    """A (C, H, W) map as a (H, W, 3) uint8 image: the first three principal components over its positions.

    The 1st to the 99th percentile of each component becomes 0 to 255.
    """
    channels, height, width = feature_map.shape
    points = feature_map.reshape(channels, -1).T.double().cpu()
    points = points - points.mean(0)
    _, vectors = torch.linalg.eigh(points.T @ points)
    scores = points @ vectors[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary. The larger tail is made positive, so equal maps get equal colours.
    scores = scores * torch.where(scores.amax(0) < -scores.amin(0), -1.0, 1.0)
    low, high = torch.quantile(scores, 0.01, dim=0), torch.quantile(scores, 0.99, dim=0)
    image = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1) * 255
    return image.round().to(torch.uint8).reshape(height, width, -1).numpy()
