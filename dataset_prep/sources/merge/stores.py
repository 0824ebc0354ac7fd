"""Joining feature stores block by block, only where their vectors mean the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from dataset_prep.files.set_files import are_ids
from dataset_prep.images.files import find_pictures, picture_folder, picture_stem
from dataset_prep.sources.merge.domain import Domain
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.features.manifest import MODALITIES
from recbole_mmm4rec.features.store import FeatureStore, hash_inputs, settle, store_path, write_store
from recbole_mmm4rec.features.tables import FeatureSource

BLOCK_ROWS = 16_384  # held at a time; 64 MB at 1,024 numbers a vector
SAME = ("encoder", "encoder_hash", "dim", "settings", "normalized")


@dataclass(frozen=True)
class JoinedStore:
    """A modality's stores, found to fit together.

    Attributes:
        modality: "text" or "image".
        parts: each set with its store, or None where it has no such modality.
    """

    modality: str
    parts: list[tuple[Domain, FeatureStore | None]]

    @property
    def stores(self) -> list[FeatureStore]:
        """The stores that there are, at least one."""
        return [store for _, store in self.parts if store is not None]

    @property
    def column(self) -> str:
        """The ``.item`` column that was encoded."""
        return str(self.stores[0].manifest.settings.get("column", self.modality))

    def write(self, dataset_dir: Path, name: str) -> tuple[int, int]:
        """Writes the joined store.

        Args:
            dataset_dir: of the merged set.
            name: of the merged set.

        Returns:
            How many items have a vector, and how many there are.
        """
        first = self.stores[0].manifest
        versions = {store.manifest.encoder_version for store in self.stores}
        layout = [_Rows(domain, store) for domain, store in self.parts]
        present = np.concatenate([part.present() for part in layout])
        dtype = np.result_type(*(store.manifest.dtype for store in self.stores)).name
        write_store(
            store_path(dataset_dir, self.modality),
            modality=self.modality,
            encoder=first.encoder,
            encoder_hash=first.encoder_hash,
            encoder_version=first.encoder_version if len(versions) == 1 else None,
            settings=first.settings,
            dim=first.dim,
            dtype=dtype,
            normalized=first.normalized,
            input_hash=self._input_hash(),
            dataset=name,
            items=[part.domain.rename(token) for part in layout for token in part.tokens],
            present=present,
            chunks=chain.from_iterable(part.blocks(first.dim, dtype) for part in layout),
        )
        return int(present.sum()), len(present)

    def _input_hash(self) -> str | None:
        """Of the merged texts or pictures, so that the merged set is checked as each of its parts was.

        None where a part's inputs are unknown, have changed, or were not encoded: the merged set's own embedding then
        does all of it again.
        """
        pairs: list[tuple[str, str]] = []
        for domain, store in self.parts:
            inputs = self._inputs(domain)
            if store is None:
                known = not any(value.strip() for _, value in inputs)
            else:
                known = store.manifest.input_hash == hash_inputs(inputs)
            if not known:
                return None
            pairs += ((domain.rename(token), value) for token, value in inputs if are_ids(token))
        return hash_inputs(pairs)

    def _inputs(self, domain: Domain) -> list[tuple[str, str]]:
        if self.modality == "text":
            return domain.item_rows(self.column)
        pictures = find_pictures(picture_folder(domain.folder))
        files = ((token, pictures.get(picture_stem(token))) for token, _ in domain.item_rows())
        return [(token, hash_file(file) if file else "") for token, file in files]


class _Rows:
    """Where the vectors of a set's items are: those of the ``.item`` file, then those that only the store knows."""

    def __init__(self, domain: Domain, store: FeatureStore | None):
        self.domain, self._store = domain, store
        self.tokens = domain.tokens()
        rows = {} if store is None else store.row_of
        known = set(self.tokens)
        self.tokens += [token for token in rows if token not in known and are_ids(token)]
        self._row = np.array([rows.get(token, -1) for token in self.tokens], dtype=np.int64)

    def present(self) -> np.ndarray:
        """(items,) bool."""
        present = self._row >= 0
        if self._store is not None:
            present[present] = self._store.present[self._row[present]]
        return present

    def blocks(self, dim: int, dtype: str) -> Iterator[np.ndarray]:
        """The vectors in blocks of rows, zeros where there are none."""
        for start in range(0, len(self.tokens), BLOCK_ROWS):
            row = self._row[start : start + BLOCK_ROWS]
            block = np.zeros((len(row), dim), dtype=dtype)
            if self._store is not None:
                block[row >= 0] = self._store.table[row[row >= 0]]
            yield block


def find_stores(domains: Sequence[Domain]) -> list[JoinedStore]:
    """The stores of each modality that at least one set has.

    Args:
        domains: the sets to merge.

    Returns:
        One for each modality, text first.

    Raises:
        UserError: a store is damaged or out of date, or two were made in different ways.
    """
    joined = []
    for modality in MODALITIES:
        sources = [FeatureSource(domain.name, domain.folder / "features", domain.file("item")) for domain in domains]
        stores = [source.open(modality) if modality in source.found() else None for source in sources]
        there = [store for store in stores if store is not None]
        for other in there[1:]:
            _check_alike(there[0], other)
        if there:
            joined.append(JoinedStore(modality, list(zip(domains, stores, strict=True))))
    return joined


def remove_stale(dataset_dir: Path, items: Sequence[str], kept: Sequence[JoinedStore]) -> None:
    """Removes stores of an earlier set of this name, whose items are others.

    Args:
        dataset_dir: of the merged set.
        items: its item ids.
        kept: the stores that were joined.
    """
    for modality in set(MODALITIES) - {store.modality for store in kept}:
        path = store_path(dataset_dir, modality)
        settle(path)
        try:
            stale = path.exists() and FeatureStore.open(path).items != items
        except UserError:
            stale = True  # damaged
        if stale:
            shutil.rmtree(path)


def _check_alike(one: FeatureStore, other: FeatureStore) -> None:
    for key in SAME:
        mine, theirs = getattr(one.manifest, key), getattr(other.manifest, key)
        if mine != theirs:
            raise UserError(
                f"{one.path} has {key} {_short(mine)}, {other.path} has {_short(theirs)}: vectors of different makes "
                "cannot stand in one table; embed both sets with the same encoder and settings"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
