"""FeatureExtractor: the user's images in, an aligned feature pyramid out."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from backbones.checks import MIN_SIZE, check_device, check_init_cfg, check_int
from backbones.errors import UserError, shown
from backbones.files import is_exported
from backbones.images import read_pixels
from backbones.pixels import check_dense, known_range, to_channels
from backbones.reading import Reading, reading_of
from backbones.registry import arch_of, create_backbone, family_of
from backbones.weights import Statistics, statistics
from backbones.weights.normalisation import check_numbers
from backbones.weights.trained_reading import trained_reading

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
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
        """The (C_i, h_i, w_i) maps of one image, by its number in the batch, without the empty part.

        Raises:
            UserError: there is no image of this number. Negatives count from the end.
        """
        count = len(self.image_sizes)
        image = check_int("image", image, -count, count - 1)
        return tuple(m[image, :, :h, :w] for m, (h, w) in zip(self, (s[image] for s in self.map_sizes), strict=True))


class FeatureExtractor:
    """A backbone in eval mode with the preprocessing that its weights expect.

    Args:
        arch: one of ``list_archs()``. None takes the arch of ``pretrained``. Or a backbone that ``ziggurat export``
            wrote, as a file: ``FeatureExtractor("van_b2.onnx")``. It has its own weights, stages and statistics.
        out_indices: the stages whose maps are returned, counted from 0.
        pretrained: as for ``create_backbone``. None gives random weights.
        device: where to compute, ``"cpu"`` by default. A number is that of a GPU.
        dtype: the type of weights and maps, e.g. ``torch.bfloat16``; float32 by default.
        fuse: fold norms into convolutions. This is faster, and changes maps by less than 1e-4 (on a GPU: with TF32
            switched off). None does so. An exported file has its norms folded or not, and takes only None.
        short_side: resize each image so that its shorter side has this number of pixels, 32 or more. None keeps the
            size.
        mean, std: normalisation of an image in 0..1: a number for each channel, or one for all. Default: the values
            that the weights were trained with, see ``backbones.weights.statistics``.
        reading: the rule by which image files are read, such as ``dict(value_range=(0, 4095), upright=False)``, see
            ``backbones.reading.Reading``. The channels are the network's. Default: the rule that the weights were
            trained with, where a checkpoint of this project tells it.
        runtime: compute the maps by ``"onnxruntime"`` or ``"openvino"``, on the CPU in float32. The network is exported
            when it is built, for all sizes where possible, else for each new size of images. None takes PyTorch, and
            for an exported file the file's runtime.
        **kwargs: further arguments of ``create_backbone``.

    Attributes:
        statistics: mean and std in use. ``statistics.source`` says where they come from.
        reading: the rule in use, a ``Reading``.

    Raises:
        UserError: as ``create_backbone``; also for a device that is not available.
    """

    def __init__(
        self,
        arch: str | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool | str | Path | None = None,
        device: str | int | torch.device | None = None,
        dtype: torch.dtype | None = None,
        fuse: bool | None = None,
        short_side: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        reading: Mapping[str, Any] | Reading | None = None,
        runtime: str | None = None,
        **kwargs: Any,
    ):
        self.device = check_device("cpu" if device is None else device)
        self.dtype = torch.float32 if dtype is None else dtype
        if not isinstance(self.dtype, torch.dtype) or self.dtype not in DTYPES:
            raise UserError(f"dtype is {shown(dtype)}; allowed: None, {', '.join(map(str, DTYPES))}")
        self.short_side = short_side if short_side is None else check_int("short_side", short_side, MIN_SIZE, None)
        if is_exported(arch):
            from backbones.export.backbone import in_file  # needs seconds

            others = {"pretrained": pretrained, "fuse": fuse, **kwargs}
            net, published, trained = in_file(arch, runtime, self.device, self.dtype, out_indices, others)
            reading = trained if reading is None else reading_of(reading)
            self.settle(net, chosen_statistics(mean, std, published, net.in_chans), reading)
            return
        if runtime is not None:
            from backbones.export.runtimes import check_runtime  # before weights are downloaded

            check_runtime(runtime, self.device, self.dtype)
        arch = arch_of(pretrained, kwargs.get("which")) if arch is None else arch
        family_of(arch)
        # Statistics come first: a file that is read for them is kept for create_backbone.
        weights = check_init_cfg(kwargs.get("init_cfg"))[0] if pretrained is None else pretrained
        published = statistics(arch, weights) if mean is None or std is None else None
        reading = trained_reading(arch, weights) if reading is None else reading_of(reading)
        net = create_backbone(arch, out_indices=out_indices, pretrained=pretrained, **kwargs)
        net = (net.fuse() if fuse or fuse is None else net).eval().requires_grad_(False).to(self.device, self.dtype)
        published = published and published.for_channels(net.in_chans)
        if runtime is not None:
            from backbones.export.backbone import in_runtime

            net = in_runtime(net, runtime, is_random=weights is None)
        self.settle(net, chosen_statistics(mean, std, published, net.in_chans), reading)

    def settle(self, net: Any, statistics: Statistics, reading: Reading) -> None:
        """Sets the network, whose ``net(images)`` gives the maps, the normalisation and the rule of reading."""
        self.net, self.feature_info, self.statistics = net, net.feature_info, statistics
        self.reading = reading._replace(channels=net.in_chans)
        self.mean, self.std = (torch.tensor(values, device=self.device) for values in self.statistics[:2])

    def __repr__(self) -> str:
        return f"FeatureExtractor({self.net.arch}, out_indices={self.net.out_indices}, {self.statistics})"

    @torch.no_grad()  # not inference_mode: no head can be trained on its tensors
    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> FeaturePyramid:
        """Computes the maps.

        Args:
            images: one image or a list of images of any sizes from 32x32 pixels up. An image is a path, a PIL image, an
                array (H, W, C) or (H, W), or a tensor (C, H, W). One tensor (B, C, H, W) is B images. Channels are
                RGB. Integers are 0..255, uint16 0..65535, floats 0..1, unless the rule has a ``value_range``. A network
                of 1 channel gets paths and PIL images in grey, one of 4 channels gets RGBA or CMYK as stored, and one
                of other channels gets TIFF and NumPy files of as many.

        Raises:
            UserError: an image cannot be read, is too small, or has another shape or range.
        """
        if isinstance(images, Tensor) and images.ndim == 4:
            images = list(images)
        elif isinstance(images, ImageLike):
            images = [images]
        if not isinstance(images, Iterable):
            raise UserError(f"images is {shown(images)}; allowed: an image, or a list of images")
        images = list(images)
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
        name, channels = "image", self.net.in_chans
        if isinstance(image, str | Path):
            name, image = str(image), read_pixels(image, reading=self.reading)
        if isinstance(image, Image.Image):
            image = np.array(to_channels(image, self.reading, name))
        image = known_range(tensor_of(image, channels, name), name, self.reading)
        if not image.numel():
            raise UserError(f"{name} is empty; allowed: {MIN_SIZE}x{MIN_SIZE} pixels and larger")
        return self.normalised(image[None], name)[0]

    def normalised(self, images: Tensor, name: str = "image") -> Tensor:
        """Images of one size as the network's input: (B, C, H, W), resized, normalised, on the device.

        Args:
            images: (B, C, H, W), integers 0..255 or floats 0..1.
            name: what an image is called in a message.

        Raises:
            UserError: the images are too small.
        """
        scale = 1.0 if images.is_floating_point() else 255.0
        images = images.to(self.device).to(torch.float32) / scale
        if self.short_side is not None:
            ratio = self.short_side / min(images.shape[2:])
            size = [round(side * ratio) for side in images.shape[2:]]
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        height, width = images.shape[2:]
        if min(height, width) < MIN_SIZE:
            raise UserError(f"{name} is {height}x{width} pixels; allowed: {MIN_SIZE}x{MIN_SIZE} and larger")
        return ((images - self.mean[:, None, None]) / self.std[:, None, None]).to(self.dtype)


def tensor_of(image: np.ndarray | Tensor, channels: int, name: str) -> Tensor:
    """An array (H, W, channels) or (H, W), or a tensor (channels, H, W), as such a tensor; UserError for others."""
    shape = tuple(getattr(image, "shape", ()))
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        image = image[:, :, None].repeat(channels, 2) if image.ndim == 2 else image
        image = image.astype(image.dtype.newbyteorder("="), copy=False)
        try:
            image = np.ascontiguousarray(image.transpose(2, 0, 1))  # of one pixel this may still be read-only memory
            image = torch.from_numpy(image if image.flags.writeable else image.copy())
        except TypeError:
            raise UserError(f"{name} has values of type {image.dtype}; allowed: integers or floats") from None
    if isinstance(image, np.ndarray | Tensor) and (image.ndim != 3 or image.shape[0] != channels):
        raise UserError(f"{name} has shape {shape}; allowed: (H, W, {channels}) array or ({channels}, H, W) tensor")
    if not isinstance(image, Tensor):
        allowed = f"a path, a PIL image, an (H, W, {channels}) array or a ({channels}, H, W) tensor"
        raise UserError(f"{name} is {shown(image)}; allowed: {allowed}")
    check_dense(image, name)
    return image


def chosen_statistics(mean: Any, std: Any, published: Statistics | None, channels: int) -> Statistics:
    """The given mean and std, completed by those of the weights."""
    if mean is None and std is None:
        return published
    mean, std = (
        None if values is None else check_numbers(word, values, channels)
        for word, values in (("mean", mean), ("std", std))
    )
    if std is None:
        return Statistics(mean, published.std, f"mean given, std {published.source}")
    if mean is None:
        return Statistics(published.mean, std, f"mean {published.source}, std given")
    return Statistics(mean, std, "given")


def stack_padded(maps: list[Tensor]) -> Tensor:
    """B maps (C, h, w) to one (B, C, H, W), padded with 0 at the right and at the bottom."""
    height, width = (max(m.shape[axis] for m in maps) for axis in (1, 2))
    return torch.stack([F.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in maps])
