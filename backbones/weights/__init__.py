"""Weights: their table, fetching, safe files, and strict loading with a report. This package imports no network.

Read the files in this order:

- ``table``, ``fetch`` and ``files`` get a file.
- ``containers`` and ``backbones.convert`` find a network's tensors in the file. ``source`` joins both steps.
- ``fit`` and ``load`` fill a network. ``whole`` does so for networks within a detector or segmenter.
- ``own`` and ``normalisation`` read what weights say besides their tensors.
"""

from backbones.weights.containers import find_tensors
from backbones.weights.files import read_ahead, read_checkpoint, save_safely
from backbones.weights.load import LoadReport, load_weights, match_structure
from backbones.weights.normalisation import Statistics, evaluation_of, statistics
from backbones.weights.own import own_meta, read_own_meta
from backbones.weights.source import tensors_of
from backbones.weights.table import WEIGHTS, list_weights
from backbones.weights.whole import match_structures, with_our_names

__all__ = [
    "WEIGHTS",
    "LoadReport",
    "Statistics",
    "evaluation_of",
    "find_tensors",
    "list_weights",
    "load_weights",
    "match_structure",
    "match_structures",
    "own_meta",
    "read_ahead",
    "read_checkpoint",
    "read_own_meta",
    "save_safely",
    "statistics",
    "tensors_of",
    "with_our_names",
]
