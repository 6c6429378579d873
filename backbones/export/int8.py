"""ONNX files with 8-bit integers: weights and values of the large products are rounded, by ranges seen on images.

The products are those of convolutions and linear layers. What decides by small differences stays in float32: the
distances by which graphs choose neighbours, attention between values, and the Fourier transform's matrices.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.errors import UserError, one_line
from backbones.export.description import KEY, Description
from backbones.export.formats import quiet
from backbones.files import write_json

PRODUCTS = ("Conv", "Gemm", "MatMul")
PRECISE = ("GlobalFilter",)  # modules whose products stay in float32
SCOPE = "pkg.torch.onnx.class_hierarchy"  # of a node's metadata: the classes of the modules that it came from


def quantise(source: Path, path: Path, description: Description, batches: Iterable[Tensor]) -> None:
    """Writes an 8-bit copy of an ONNX file, and its description as JSON beside it.

    Args:
        source: the file, of float32.
        path: the new file.
        description: of the new file.
        batches: inputs of the file, whose values have the ranges of later ones.

    Raises:
        UserError: ONNX Runtime's quantisation refuses the network.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static

    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8.") as folder, quiet(), silent_root():
            ready = Path(folder) / "ready.onnx"
            quant_pre_process(source, ready, skip_symbolic_shape=True)
            model = onnx.load(ready)
            quantize_static(
                ready,
                path,
                Batches(model.graph.input[0].name, batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(PRODUCTS),
                nodes_to_exclude=precise_nodes(model.graph),
                per_channel=True,
                reduce_range=True,  # processors without VNNI add products of 8 bits in 16, which overflow
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        written = onnx.load(path)
        del written.metadata_props[:]
        onnx.helper.set_model_props(written, {KEY: description.as_text()})
        onnx.save(written, path)
    except (OSError, UserError):
        raise
    except Exception as error:
        raise UserError(f"ONNX Runtime cannot quantise {description.arch}: {one_line(error)}") from error
    write_json(path.with_name(f"{path.name}.json"), description.as_dict())


def precise_nodes(graph: Any) -> list[str]:
    """The names of the products that stay in float32: those of two values, and those of the modules in PRECISE."""
    weights = {tensor.name for tensor in graph.initializer}
    names = []
    for node in graph.node:
        if node.op_type in PRODUCTS:
            scope = next((entry.value for entry in node.metadata_props if entry.key == SCOPE), "")
            if not weights & set(node.input[:2]) or any(f".{name}'" in scope for name in PRECISE):
                names.append(node.name)
    return names


class Batches:
    """The inputs of a calibration, as ONNX Runtime's ``CalibrationDataReader`` gives them."""

    def __init__(self, name: str, batches: Iterable[Tensor]):
        self.name, self.batches = name, iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch.numpy()}


@contextlib.contextmanager
def silent_root() -> Iterator[None]:
    """A block after which the root logger has the handlers that it had: ONNX Runtime adds one by logging through it."""
    handlers = list(logging.root.handlers)
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
