"""Networks as files that other programs run: torch.export, ONNX, OpenVINO and TorchScript.

- ``program`` records a network by ``torch.export``, for fixed or free sizes.
- ``formats`` writes the record in each format, with the description of ``description``.
- ``exported`` runs such a file with the call of the network: ``Exported("van_b0.onnx")(images)``.
- ``runtimes`` has a network of this process computed by a runtime, without files that stay.
- ``errors`` compares the results with those of PyTorch, and ``matching`` lists of found objects.
"""

from backbones.export.description import Description
from backbones.export.errors import Errors, Tolerance, errors_of, tolerance_for, worst_of
from backbones.export.exported import Exported
from backbones.export.formats import FORMATS, check_packages, write
from backbones.export.matching import errors_of_objects
from backbones.export.program import Extent, prepared, record

__all__ = [
    "FORMATS",
    "Description",
    "Errors",
    "Exported",
    "Extent",
    "Tolerance",
    "check_packages",
    "errors_of",
    "errors_of_objects",
    "prepared",
    "record",
    "tolerance_for",
    "worst_of",
    "write",
]
