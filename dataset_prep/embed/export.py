"""``embed --export-atomic``: a feature store as an atomic file of RecBole's own, for models that know no store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dataset_prep.files.atomic import replace_file
from recbole_mmm4rec.features.store import FeatureStore, store_path

ROWS = 4_096  # turned into text at a time


def export_atomic(name: str, out: Path, modalities: Sequence[str]) -> str:
    """Writes ``NAME.textfeat`` or ``NAME.imagefeat``: items that have a vector, in the order of the store.

    Args:
        name: of the data set.
        out: folder of data sets.
        modalities: whose stores are written out.

    Returns:
        Where they are and the configuration that loads them, for the screen.

    Raises:
        UserError: a store is missing or damaged.
    """
    for modality in modalities:
        store = FeatureStore.open(store_path(out / name, modality))
        replace_file(out / name / f"{name}.{modality}feat", atomic_lines(store, modality))
    files = ", ".join(str(out / name / f"{name}.{modality}feat") for modality in modalities)
    return f"written: {files}; a RecBole model loads it with this configuration:\n" + config_lines(modalities)


def atomic_lines(store: FeatureStore, modality: str) -> Iterator[str]:
    """The lines of the file, header first; each number is the shortest text that reads back as the same float32."""
    yield f"{modality}_id:token\t{modality}_vec:float_seq\n"
    for start in range(0, len(store.items), ROWS):
        block = np.asarray(store.table[start : start + ROWS], dtype=np.float32)
        for row in np.flatnonzero(store.present[start : start + ROWS]).tolist():
            yield f"{store.items[start + row]}\t{' '.join(map(str, block[row]))}\n"


def config_lines(modalities: Sequence[str]) -> str:
    """RecBole's YAML for the exported files; the ids are matched to items, the vectors kept as a weight matrix."""
    ids = ", ".join(f"{modality}_id" for modality in modalities)
    lines = [
        f"additional_feat_suffix: [{', '.join(f'{modality}feat' for modality in modalities)}]",
        f"alias_of_item_id: [{ids}]",
        "load_col:",
        "  inter: [user_id, item_id, timestamp]",
        *(f"  {modality}feat: [{modality}_id, {modality}_vec]" for modality in modalities),
        "preload_weight:",
        *(f"  {modality}_id: {modality}_vec" for modality in modalities),
    ]
    return "\n".join(lines)
