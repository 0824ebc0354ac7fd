"""Other vectors for the items of a set that has texts and pictures: what does training make of them?

    python -m benchmarks.feature_variants dataset/ml-1m-30

Beside `features` it writes `features-whitened` (of each modality the WIDTH directions of largest variance, each with
the same variance, vectors of length 1) and `features-swapped` (the pictures' vectors as texts and the other way round:
the user vector is the image stream's). A comparison takes them by `feature_path`; properties/compare/fusion.yaml does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recbole_mmm4rec.base.command_line import Parser, command
from recbole_mmm4rec.features.manifest import MODALITIES
from recbole_mmm4rec.features.store import FeatureStore, write_store

WIDTH = 256


def whitened(table: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Rows (I, F) as float32 (I, min(WIDTH, F)): principal directions of the present ones, scaled to one variance."""
    mean = table[present].mean(axis=0)
    _, spread, directions = np.linalg.svd(table[present] - mean, full_matrices=False)
    found = (table - mean) @ (directions[:WIDTH].T / spread[:WIDTH])
    made: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True).clip(min=1e-12)
    return made.astype(np.float32)


def write(store: FeatureStore, path: Path, modality: str, table: np.ndarray, how: str) -> None:
    """Write a store of other vectors for the items of ``store``."""
    write_store(
        path / modality,
        modality=modality,
        encoder=f"{store.manifest.encoder}, {how}",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=table.shape[1],
        dtype="float32",
        normalized=True,
        input_hash=None,
        dataset=store.manifest.dataset,
        items=store.items,
        present=store.present,
        chunks=[table],
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the variants of a set's stores."""
    folder: Path = arguments.dataset
    stores = [FeatureStore.open(folder / "features" / modality) for modality in MODALITIES]
    for store, other in zip(stores, reversed(MODALITIES), strict=True):
        table = np.asarray(store.table, dtype=np.float32)
        white = whitened(table.astype(np.float64), np.asarray(store.present))
        write(store, folder / "features-whitened", store.manifest.modality, white, "whitened")
        write(store, folder / "features-swapped", other, table, "swapped")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = Parser(prog="python -m benchmarks.feature_variants", description=__doc__)
    parser.add_argument("dataset", type=Path, help="folder of a prepared and embedded data set")
    return command(parser, run, argv)


if __name__ == "__main__":
    sys.exit(main())
