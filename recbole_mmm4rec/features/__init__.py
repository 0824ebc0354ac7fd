"""The feature store on disk."""

from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.features.store import (
    FeatureStore,
    Manifest,
    hash_inputs,
    settle,
    store_path,
    write_store,
)

__all__ = ["FeatureStore", "Manifest", "hash_inputs", "read_item_column", "settle", "store_path", "write_store"]
