"""A store of features: a folder of .safetensors shards with an index in Parquet. Reading and writing.

Read the files in this order: ``layout`` says what lies in the folder, ``writer`` fills it, ``reader`` reads it, and
``search`` finds the nearest neighbours of vectors.
"""

from backbones.store.reader import FeatureStore
from backbones.store.writer import StoreWriter

__all__ = ["FeatureStore", "StoreWriter"]
