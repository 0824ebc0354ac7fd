"""A data set for a trial of training where there is no network: RecBole's own MovieLens 100K with random text vectors.

    python benchmarks/gpu_data.py FOLDER

The vectors say nothing, so neither do the metrics: it shows that training runs, and how long an epoch takes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_prep.__main__ import main as prepare
from recbole_mmm4rec.base.atomic_files import read_item_column
from recbole_mmm4rec.features.store import store_path, write_store

NAME, WIDTH = "ml-100k", 384


def main(folder: Path) -> None:
    """Write the data set ``FOLDER/ml-100k``."""
    code = prepare(["recbole", NAME, "--out", str(folder), "--force"])
    if code:
        raise SystemExit(code)
    items, _ = read_item_column(folder / NAME / f"{NAME}.item", "text")
    vectors = np.random.default_rng(0).standard_normal((len(items), WIDTH)).astype(np.float32)
    write_store(
        store_path(folder / NAME, "text"),
        modality="text",
        encoder="random",
        encoder_hash=None,
        encoder_version=None,
        settings={},
        dim=WIDTH,
        dtype="float32",
        normalized=False,
        input_hash=None,
        dataset=NAME,
        items=items,
        present=np.ones(len(items), dtype=bool),
        chunks=[vectors],
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/gpu_data.py FOLDER")
    main(Path(sys.argv[1]))
