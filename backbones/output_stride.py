"""The argument ``output_stride``: coarse maps that keep the size of a finer one, for heads that want fine maps."""

from typing import Any

from backbones.checks import as_int
from backbones.errors import UserError, shown
from backbones.pyramid import PyramidBackbone

OUTPUT_STRIDES = (8, 16, 32)


class OutputStride:
    """Stands before ``PyramidBackbone`` in the bases of a network whose ``build`` follows ``STRIDES``.

    Args:
        output_stride: the largest stride of a map: 8, 16 or 32. Below 32 the later downsamplings keep the size of the
            map, and no convolution is dilated, as in the official HamNet. The weights stay the same.

    Raises:
        UserError: ``output_stride`` is anything else.
    """

    def __init__(self, arch: str, *args: Any, output_stride: int = 32, **kwargs: Any):
        if as_int(output_stride) not in OUTPUT_STRIDES:
            raise UserError(f"output_stride is {shown(output_stride)}; allowed: {', '.join(map(str, OUTPUT_STRIDES))}")
        self.STRIDES = tuple(min(stride, int(output_stride)) for stride in PyramidBackbone.STRIDES)
        super().__init__(arch, *args, **kwargs)

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"output_stride": self.STRIDES[-1]}

    def step(self, i: int) -> int:
        """The stride of the downsampling before stage ``i``, counted from 1: 2, or 1 where the size stays."""
        return self.STRIDES[i] // self.STRIDES[i - 1]
