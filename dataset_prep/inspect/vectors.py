"""Which items have nearly the same vector, and which are nearest: by blocks, never all pairs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from recbole_mmm4rec.features.store import FeatureStore

BLOCK = 4_096  # rows at a time; two blocks of 1,280 numbers and their products take 110 MB
MOST_COMPARED = 50_000  # items of which all pairs are looked at: a minute or two on two cores
EXAMPLES = 8


class Vectors(Protocol):
    """Vectors of length 1, by item.

    Attributes:
        present: (items,) bool.
    """

    present: np.ndarray

    def rows(self, at: np.ndarray) -> np.ndarray:
        """(len(at), F) float32 for item positions; zeros where an item has none."""
        ...


class StoredVectors:
    """A feature store in the order of some items; attributes as in :class:`Vectors`.

    Args:
        store: the store.
        items: tokens; those that the store lacks count as absent.
    """

    def __init__(self, store: FeatureStore, items: Sequence[str]):
        self._store = store
        self._row = np.array([store.row_of.get(item, -1) for item in items], dtype=np.int64)
        self.present = self._row >= 0
        self.present[self.present] = store.present[self._row[self.present]]

    def rows(self, at: np.ndarray) -> np.ndarray:
        """(len(at), F) float32 of length 1 for item positions; zeros where an item has none."""
        here = self.present[at]
        block = np.zeros((len(at), self._store.manifest.dim), dtype=np.float32)
        block[here] = self._store.table[self._row[at[here]]]
        length = np.linalg.norm(block, axis=1, keepdims=True)
        return np.divide(block, length, out=np.zeros_like(block), where=length > 0)


class ArrayVectors:
    """Vectors in memory; attributes as in :class:`Vectors`.

    Args:
        table: (items, F) float32, rows of length 1.
        present: (items,) bool.
    """

    def __init__(self, table: np.ndarray, present: np.ndarray):
        self._table, self.present = table, present

    def rows(self, at: np.ndarray) -> np.ndarray:
        """(len(at), F) float32 for item positions."""
        return np.asarray(self._table[at] * self.present[at, None])


@dataclass(frozen=True)
class NearDuplicates:
    """Items with nearly the same vector as another one.

    Attributes:
        items: how many.
        compared: how many were compared, each with each.
        examples: the first pairs, as item positions with their cosine.
    """

    items: int
    compared: int
    examples: list[tuple[int, int, float]]


def near_duplicates(vectors: Vectors, least: float) -> NearDuplicates:
    """Finds the items that have a twin.

    Args:
        vectors: of the items; of more than ``MOST_COMPARED`` an evenly spaced sample is looked at.
        least: cosine from which on two vectors are nearly the same.
    """
    every = np.flatnonzero(vectors.present)
    if len(every) > MOST_COMPARED:
        every = every[np.linspace(0, len(every) - 1, MOST_COMPARED).round().astype(np.int64)]
    twin = np.zeros(len(every), dtype=bool)
    examples: list[tuple[int, int, float]] = []
    for left, mine in _blocks(every):
        block = vectors.rows(mine)
        for right, others in _blocks(every):
            if right < left:
                continue
            cosine = block @ vectors.rows(others).T
            if right == left:
                cosine[np.tril_indices(len(mine))] = -1  # each pair once, none with itself
            near = np.argwhere(cosine >= least)
            twin[left + near[:, 0]] = True
            twin[right + near[:, 1]] = True
            for one, other in near[: EXAMPLES - len(examples)].tolist():
                examples.append((int(mine[one]), int(others[other]), float(cosine[one, other])))
    return NearDuplicates(int(twin.sum()), len(every), examples)


def nearest(spaces: Sequence[Vectors], of: np.ndarray, count: int) -> list[list[tuple[int, float]]]:
    """The nearest other items.

    Args:
        spaces: one kind of vectors, or several whose cosines are averaged; an item needs all of them.
        of: (n,) item positions.
        count: neighbours of each.

    Returns:
        For each of ``of`` at most ``count`` item positions with their cosine, nearest first; none if it has no vector.
    """
    present = np.logical_and.reduce([space.present for space in spaces])
    queries = [space.rows(of) for space in spaces]
    best_cosine = np.full((len(of), 0), -np.inf, dtype=np.float32)
    best_item = np.zeros((len(of), 0), dtype=np.int64)
    for _, block in _blocks(np.flatnonzero(present)):
        cosine = sum(query @ space.rows(block).T for query, space in zip(queries, spaces, strict=True)) / len(spaces)
        cosine = np.where(block[None, :] == of[:, None], -np.inf, cosine)
        best_cosine = np.concatenate([best_cosine, cosine], axis=1)
        best_item = np.concatenate([best_item, np.broadcast_to(block, cosine.shape)], axis=1)
        order = np.argsort(-best_cosine, axis=1, kind="stable")[:, :count]
        best_cosine = np.take_along_axis(best_cosine, order, axis=1)
        best_item = np.take_along_axis(best_item, order, axis=1)
    return [
        [(int(item), float(value)) for item, value in zip(items, values, strict=True) if np.isfinite(value)]
        if present[query]
        else []
        for query, items, values in zip(of, best_item, best_cosine, strict=True)
    ]


def _blocks(every: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(every), BLOCK):
        yield start, every[start : start + BLOCK]
