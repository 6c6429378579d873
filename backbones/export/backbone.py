"""Backbones whose maps come from exported files, for ``FeatureExtractor``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.errors import UserError, shown
from backbones.export.description import Description
from backbones.export.exported import Exported
from backbones.export.program import Extent
from backbones.export.runtimes import InRuntime, check_data, check_file, digest_of, parts_of
from backbones.pyramid import FeatureInfo, PyramidBackbone
from backbones.reading import Reading, reading_of
from backbones.weights import Statistics
from backbones.weights.identity import tensors_sha256

ALL = (0, 1, 2, 3)  # the default of FeatureExtractor's out_indices, which takes those of a file


class RuntimeBackbone:
    """A backbone whose maps come from exported files. ``backbone(images)`` gives a map per ``out_indices``.

    Args:
        files: gives the file for a size of images, (height, width).
        description: of the files.
        digest: tells the weights apart from others; None if their own file does.
    """

    def __init__(self, files: Callable[[tuple[int, int]], Exported], description: Description, digest: str | None):
        self.files, self.digest = files, digest
        self.arch, self.in_chans = description.arch, description.channels
        self.out_indices = tuple(description.out_indices)
        self.feature_info = [FeatureInfo(*row) for row in description.feature_info]

    def __call__(self, x: Tensor) -> list[Tensor]:
        found = [outputs for _, outputs in parts_of(self.files(tuple(x.shape[2:])), x)]
        return [torch.cat(levels) for levels in zip(*found, strict=True)]


def in_runtime(net: PyramidBackbone, runtime: str, is_random: bool) -> RuntimeBackbone:
    """A backbone as a runtime computes it. ``is_random`` says that no file has its weights.

    Raises:
        UserError: the network cannot be exported, or the runtime computes other values than PyTorch.
    """

    def describe(extent: Extent) -> Description:
        outputs = tuple(f"stage{i}" for i in net.out_indices)
        info = tuple(map(tuple, net.feature_info))
        return Description(
            "backbone", net.arch, outputs, *extent, "float32", (), (), "", None, net.out_indices, info, fused=False
        )

    extent = Extent((96, 128), 1, ("batch", "size"), net.in_chans)
    digest, description = tensors_sha256(net) if is_random else None, describe(extent)
    return RuntimeBackbone(InRuntime(net, runtime, describe, extent, fuse=False), description, digest)


def in_file(
    path: str | Path,
    runtime: str | None,
    device: torch.device,
    dtype: torch.dtype,
    out_indices: Sequence[int],
    others: Mapping[str, Any],
) -> tuple[RuntimeBackbone, Statistics, Reading]:
    """The backbone in an exported file, the normalisation of its input, and the rule by which images are read.

    Args:
        path: the file.
        runtime: None, or the runtime of such files.
        device, dtype, out_indices: of ``FeatureExtractor``.
        others: further arguments, which an exported file does not take. Those that are None are not given.

    Raises:
        UserError: the file is absent or damaged, holds a whole model, or an argument contradicts it.
    """
    check_data(path)
    file = Exported(path)
    described = file.description
    check_file(file, runtime, device)
    if described.kind != "backbone":
        raise UserError(f"{path} holds a whole model of {described.kind}; allowed: an export of a backbone")
    given = {name: value for name, value in others.items() if value is not None}
    given |= {} if dtype == torch.float32 else {"dtype": dtype}
    given |= {} if tuple(out_indices) in (ALL, tuple(described.out_indices)) else {"out_indices": out_indices}
    for name, value in given.items():
        raise UserError(f"{name} is {shown(value)}, and {path} is exported already; allowed: without {name}")
    statistics = Statistics(tuple(described.mean), tuple(described.std), described.statistics)
    reading = reading_of(described.config.get("reading"), f"reading in {path}")
    return RuntimeBackbone(lambda size: file, described, digest_of(file)), statistics, reading
