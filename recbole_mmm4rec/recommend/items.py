"""The catalogue of a model folder: ids, texts, columns, pictures, and which items a request may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError, did_you_mean

SHOWN = 3
"""Ids that a message names."""


class Items:
    """The items of a shop; number 1 is the first row, 0 is padding.

    Args:
        table: ``item_id``, ``text``, columns of the item file, ``popularity``, ``has_text``, ``has_image``.
        pictures: (I,) binary, null where an item has none; None without pictures.
    """

    def __init__(self, table: pa.Table, pictures: pa.Array | None = None) -> None:
        self.table = table
        self.pictures = pictures

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        """All ids, in the order of their numbers."""
        found: list[str] = self.table["item_id"].to_pylist()
        return found

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids, 1)}

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    @cached_property
    def popularity(self) -> np.ndarray:
        """(I,) int64 interactions in training."""
        return np.asarray(self.table["popularity"].to_numpy())

    def number(self, item: str) -> int | None:
        """The number of an item, from 1; None where the shop does not have it."""
        return self._numbers.get(item)

    def known(self, item: Any) -> int:
        """The number of an item that must be there.

        Raises:
            UserError: the shop does not have it.
        """
        found = self.number(str(item))
        if found is None:
            raise UserError(f"item {str(item)!r}: the shop does not have it{did_you_mean(str(item), self._near(item))}")
        return found

    def _near(self, item: Any) -> list[str]:
        """Ids that begin alike; looking through all of a large shop would take seconds."""
        start = str(item)[:2]
        return [name for name in self.ids if name.startswith(start)][:1000] if start else []

    def text(self, item: str) -> str:
        """The text of an item, empty where it has none."""
        return self.texts([self.known(item)])[0]

    def texts(self, numbers: Iterable[int]) -> list[str]:
        """The texts of items by number."""
        places = pa.array([number - 1 for number in numbers], pa.int64())
        return [text or "" for text in self.table["text"].take(places).to_pylist()]

    def row(self, item: str) -> dict[str, Any]:
        """All columns of an item."""
        number = self.known(item)
        return {name: self.table[name][number - 1].as_py() for name in self.columns}

    def has_picture(self, item: str) -> bool:
        """Whether an item has a picture, which is not read."""
        number = self.known(item)
        return self.pictures is not None and bool(self.pictures[number - 1].is_valid)

    @property
    def pictured(self) -> bool:
        """Whether any item has a picture."""
        return self.pictures is not None and self.pictures.null_count < len(self.pictures)

    def picture(self, item: str) -> bytes | None:
        """A small JPEG of an item; None where it has none."""
        number = self.known(item)
        found = None if self.pictures is None else self.pictures[number - 1].as_py()
        return found if found is None else bytes(found)

    def allowed(
        self,
        only: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> tuple[Tensor | None, list[str]]:
        """Which items a request may have.

        Args:
            only: ids, of which alone items are chosen.
            exclude: ids that are not chosen.
            where: column to the value, or list of values, that an item has there.

        Returns:
            (I+1,) bool, None where all are allowed; and notes of ids that the shop does not have.

        Raises:
            UserError: an unknown column, or a value that no item has.
        """
        if exclude is not None and not isinstance(exclude, str) and isinstance(exclude, Iterable):
            exclude = list(exclude) or None  # an array has no truth of its own
        if only is None and not exclude and not where:
            return None, []
        if where is not None and not isinstance(where, Mapping):
            raise UserError(f"where={where!r}: must be a column and its value, as in {{'category': 'Tents'}}")
        notes: list[str] = []
        mask = torch.ones(len(self) + 1, dtype=torch.bool)
        if only is not None:
            mask[:] = False
            mask[self._listed("only", only, notes)] = True
        if exclude:
            mask[self._listed("exclude", exclude, notes)] = False
        for column, values in (where or {}).items():
            mask[1:] &= torch.from_numpy(self._having(column, values))
        mask[0] = False
        return mask, notes

    def _listed(self, key: str, ids: Sequence[str], notes: list[str]) -> list[int]:
        if isinstance(ids, str) or not isinstance(ids, Iterable):
            raise UserError(f"{key}={ids!r}: must be a list of item ids")
        names = [str(name) for name in ids]
        numbers = [self.number(name) for name in names]
        unknown = [name for name, number in zip(names, numbers, strict=True) if number is None]
        if unknown:
            notes.append(f"{key}: the shop does not have {named(unknown)}")
        return [number for number in numbers if number is not None]

    def _having(self, column: str, values: Any) -> np.ndarray:
        if column not in self.columns:
            hint = did_you_mean(column, self.columns) or f"; it has {', '.join(self.columns)}"
            raise UserError(f"where: the items have no column {column!r}{hint}")
        asked = list(values) if isinstance(values, (list, tuple, set, frozenset)) else [values]
        if not asked:
            raise UserError(f"where: {column}=[] names no value; give one, or leave it out")
        there = self.table[column]
        try:
            wanted = pa.array([str(value) if pa.types.is_string(there.type) else value for value in asked])
            found = pc.is_in(there, value_set=wanted.cast(there.type)).to_numpy(zero_copy_only=False)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            raise UserError(f"where: {column}={asked!r}: the column holds values of type {there.type}") from None
        if not found.any():
            known = [str(value) for value in pc.unique(there).drop_null().slice(0, 1000).to_pylist()]
            hint = did_you_mean(str(asked[0]), known)
            raise UserError(f"where: no item has {column}={', '.join(map(str, asked))}{hint}")
        return np.asarray(found, dtype=bool)


def named(ids: Sequence[str]) -> str:
    """A few ids for a message, and how many there are beside."""
    rest = len(ids) - SHOWN
    return ", ".join(map(repr, ids[:SHOWN])) + (f" and {rest} more" if rest > 0 else "")
