"""Networks of this process that a runtime computes in place of PyTorch, and batches that fit a file."""

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.errors import UserError, shown
from backbones.export.comparison import compared, shapes_of
from backbones.export.description import Description
from backbones.export.exported import Exported
from backbones.export.formats import FORMATS, check_packages, files_of, write
from backbones.export.program import Extent, prepared, record
from backbones.files import SAFE, sha256_of

RUNTIMES = {"onnxruntime": "onnx", "openvino": "openvino"}  # the name of a runtime -> the format of its files
DATA = (".onnx", ".xml")  # suffixes of files that are data, and no programs
Images = Callable[[Extent, Description], list[Tensor]]
KEPT = 8  # files of single sizes that stay, those used last


def check_runtime(runtime: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """Raises UserError for a runtime that is unknown or not installed, or does not compute on a device or in a type."""
    if not isinstance(runtime, str) or runtime not in RUNTIMES:
        raise UserError(f"runtime is {shown(runtime)}; allowed: None, {', '.join(RUNTIMES)}")
    if device.type != "cpu":
        raise UserError(f"device is {device}, and runtime {runtime} computes on the CPU; allowed: cpu")
    if dtype != torch.float32:
        raise UserError(f"dtype is {dtype}, and runtime {runtime} computes in torch.float32; allowed: None")
    check_packages([RUNTIMES[runtime]])


def check_data(path: str | Path) -> None:
    """Raises UserError, where ZIGGURAT_SAFE=1 asks for it, for a file that PyTorch reads as a program."""
    if os.environ.get(SAFE) == "1" and Path(path).suffix.lower() not in DATA:
        raise UserError(f"{path} is a program of PyTorch; allowed with --safe or {SAFE}=1: {', '.join(DATA)}")


def check_file(file: Exported, runtime: str | None, device: torch.device) -> None:
    """Raises UserError for a runtime of other files, or a file that needs images of another type than float32."""
    own = next((name for name, of in RUNTIMES.items() if of == file.format), None)
    if runtime not in (None, own):
        allowed = "None" if own is None else f"None, {own}"
        raise UserError(f"runtime is {shown(runtime)}; allowed for {file.path}: {allowed}")
    if device.type != "cpu":
        raise UserError(f"device is {device}, and exported files are computed on the CPU; allowed: cpu")
    if file.description.dtype != "float32":
        raise UserError(f"{file.path} is of {file.description.dtype}; allowed: an export of float32")


def noise(extent: Extent, description: Description) -> list[Tensor]:
    """Noise of the shapes on which a file for an extent is compared."""
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random) for shape in shapes_of(extent)]


class InRuntime:
    """A network as exported files of a runtime, which are made when they are needed.

    One file takes all sizes, if the network can be exported for free sizes. Otherwise each size of images has a file.
    It is made for the first image of the size, in seconds, and kept for the next ones. The last 8 sizes are kept.

    Args:
        net: a backbone, or the module of a task's whole model, in eval mode on the CPU.
        runtime: a key of ``RUNTIMES``.
        describe: gives the description of a file for an extent.
        extent: a size to begin with, and the axes that may be free.
        fuse: fold norms into convolutions.
        images: gives normalised images on which a file of an extent and a description is compared with PyTorch.

    Raises:
        UserError: the network cannot be exported, or the runtime computes other values than PyTorch.
    """

    def __init__(
        self,
        net: nn.Module,
        runtime: str,
        describe: Callable[[Extent], Description],
        extent: Extent,
        fuse: bool = True,
        images: Images = noise,
    ):
        self.net, self.name, self.describe, self.extent, self.fuse = net, RUNTIMES[runtime], describe, extent, fuse
        self.images = images
        self.sizes: OrderedDict[tuple[int, int], Exported] = OrderedDict()
        self.whole = None
        if "size" in extent.free:
            try:
                self.whole = self.made(extent)
                self.net = None  # is not needed any more
            except UserError:
                self.extent = extent._replace(free=tuple(axis for axis in extent.free if axis != "size"))
        else:
            self(extent.size)

    def __call__(self, size: tuple[int, int]) -> Exported:
        """The file for images of ``size``, (height, width) in pixels."""
        if self.whole is not None:
            return self.whole
        if size not in self.sizes:
            self.sizes[size] = self.made(self.extent._replace(size=size))
        self.sizes.move_to_end(size)
        while len(self.sizes) > KEPT:
            self.sizes.popitem(last=False)
        return self.sizes[size]

    @torch.no_grad()
    def made(self, extent: Extent) -> Exported:
        """The file for an extent, opened, and compared with PyTorch. No file stays on the disk."""
        net = prepared(self.net, self.fuse, "size" in extent.free)
        description = self.describe(extent)
        with tempfile.TemporaryDirectory(prefix="ziggurat-runtime-") as folder:
            path = Path(folder) / f"{description.kind}{FORMATS[self.name].suffix}"
            write(record(net, extent), self.name, path, description)
            file = Exported(path)
        compared(file, net, self.images(extent, description))
        return file


def parts_of(
    file: Exported, x: Tensor, shown: Sequence[tuple[int, int]] | None = None
) -> Iterator[tuple[slice, list[Tensor]]]:
    """The outputs for a batch of any number of images, as many at a time as the file takes.

    Args:
        file: the file.
        x: (B, C, H, W), the batch.
        shown: for a file of one image that takes them, height and width of each image at the top left of its input.

    Yields:
        The images of a part of the batch, as a slice, and the file's outputs for them. A file for one image may have
        outputs without an axis of images.
    """
    description = file.description
    step = len(x) if "batch" in description.free else description.batch
    for start in range(0, len(x), step):
        part = x[start : start + step]
        count = len(part)
        if count < step:  # the last image fills the batch up
            part = torch.cat([part, part[-1:].expand(step - count, *part.shape[1:])])
        outputs = file(part) if shown is None else file(part, shown[start])
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        yield slice(start, start + count), [output[:count] for output in outputs] if count < step else outputs


def digest_of(file: Exported) -> str:
    """The SHA-256 of an exported file and those that belong to it, in hexadecimal digits."""
    parts = [path for path in files_of(file.format, file.path) if path.suffix != ".json"]
    return hashlib.sha256("".join(map(sha256_of, parts)).encode()).hexdigest()
