"""Training samples of a sequential data set as views into one table of interactions.

A sample is "the items a user took before this one" with "this one" as target. RecBole copies every such history into
its own padded row (``SequentialDataset.data_augmentation``); here the interactions lie once, ordered by (user, time),
and a sample is the row of its target and the number of rows before it. Histories are gathered when a batch asks for
them, so that memory grows with the interactions and not with interactions x length x fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_mmm4rec.data.sorting import stable_order

Index = int | slice | Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True)
class _Column:
    """One field: ``target`` and ``history`` read the shared table, ``length`` and ``own`` have a value a sample."""

    kind: str
    values: Tensor | None = None


class PrefixColumns(MutableMapping[str, Tensor]):
    """The fields of a set of samples, computed when read.

    Args:
        rows: field name to its values, one row an interaction, (R, ...), ordered by (user, time).
        user_field: the field without a history of its own.
        length_field: name of the field that holds the history's length.
        list_suffix: what is appended to a field's name for its history.
        max_length: L, the padded length of histories; longer ones keep their latest L rows.
        target: int32 or int64 (N,), the row of each sample's target.
        length: int32 or int64 (N,), how many rows before the target belong to the history, between 1 and L.
    """

    def __init__(
        self,
        rows: Mapping[str, Tensor],
        user_field: str,
        length_field: str,
        list_suffix: str,
        max_length: int,
        target: Tensor,
        length: Tensor,
    ) -> None:
        self._fields = {name: _Column("target", values) for name, values in rows.items()}
        self._fields[length_field] = _Column("length")
        for name, values in rows.items():
            if name != user_field:
                self._fields[name + list_suffix] = _Column("history", values)
        self.max_length = max_length
        self.target = target
        self.length = length

    @property
    def size(self) -> int:
        """N, the number of samples."""
        return self.target.shape[0]

    @property
    def rows(self) -> dict[str, Tensor]:
        """Field name to its values in the shared table, (R, ...), ordered by (user, time)."""
        return {n: c.values for n, c in self._fields.items() if c.kind == "target" and c.values is not None}

    def select(self, index: slice | Tensor) -> PrefixColumns:
        """The same fields for the samples at ``index`` (int64 or bool), still without a copy of any history."""
        if isinstance(index, Tensor) and index.dtype != torch.bool and len(index) and int(index.min()) < 0:
            index = torch.where(index < 0, index + self.size, index)
        chosen = object.__new__(PrefixColumns)
        chosen.max_length = self.max_length
        chosen.target = _take(self.target, index)
        chosen.length = _take(self.length, index)
        chosen._fields = {
            name: _Column("own", _take(column.values, index))
            if column.kind == "own" and column.values is not None
            else column
            for name, column in self._fields.items()
        }
        return chosen

    def gather(self) -> dict[str, Tensor]:
        """Every field as a tensor of its own: (N, ...), histories (N, L, ...) padded with zeros on the right."""
        positions: tuple[Tensor, Tensor] | None = None
        gathered: dict[str, Tensor] = {}
        for name, column in self._fields.items():
            if column.kind == "history" and positions is None:
                positions = self._positions()
            gathered[name] = self._read(column, positions)
        return gathered

    def renamed(self, prefix: str) -> PrefixColumns:
        """The same samples with ``prefix`` before every field's name."""
        chosen = self.select(slice(None))
        chosen._fields = {prefix + name: column for name, column in chosen._fields.items()}
        return chosen

    def _positions(self) -> tuple[Tensor, Tensor]:
        """Rows of the histories, (N, L), and which of these positions are padding, (N, L)."""
        step = torch.arange(self.max_length)
        padding = step >= self.length.unsqueeze(1)
        rows = (self.target - self.length).unsqueeze(1) + step
        return rows.masked_fill_(padding, 0), padding

    def _read(self, column: _Column, positions: tuple[Tensor, Tensor] | None) -> Tensor:
        if column.values is None:
            return self.length.to(torch.int64, copy=True)
        if column.kind == "own":
            return column.values
        if column.kind == "target":
            return _take(column.values, self.target)
        rows, padding = positions if positions is not None else self._positions()
        history = _take(column.values, rows.flatten()).unflatten(0, rows.shape)
        return history.masked_fill_(padding.reshape(padding.shape + (1,) * (history.dim() - 2)), 0)

    def __getitem__(self, field: str) -> Tensor:
        return self._read(self._fields[field], None)

    def __setitem__(self, field: str, values: Tensor) -> None:
        self._fields[field] = _Column("own", values)

    def __delitem__(self, field: str) -> None:
        del self._fields[field]

    def __contains__(self, field: object) -> bool:
        return field in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class PrefixInteraction(Interaction):
    """RecBole's ``Interaction`` whose samples are views into one table.

    ``inter[index]`` gathers an ordinary ``Interaction`` with the fields, shapes and dtypes that RecBole's own
    augmentation gives, ``inter[field]`` one column of it. Everything else is inherited and reads columns when it
    needs them; ``sort`` and ``shuffle`` move samples, never the table.

    Args:
        columns: the samples.
    """

    def __init__(self, columns: PrefixColumns) -> None:
        self.interaction = columns
        self.length = columns.size

    def __getitem__(self, index: str | Index) -> Any:
        if isinstance(index, str):
            return self.interaction[index]
        if isinstance(index, (int, np.integer)):
            row = self.interaction.select(_as_index([int(index)])).gather()
            return Interaction({field: values[0] for field, values in row.items()})
        return Interaction(self.interaction.select(_as_index(index)).gather())

    def subset(self, index: Index) -> PrefixInteraction:
        """The samples at ``index``, still as views: what a split holds."""
        return PrefixInteraction(self.interaction.select(_as_index(index)))

    def sort(self, by: str | Sequence[str], ascending: bool | Sequence[bool] = True) -> None:
        """Put the samples in the order of one or more fields, equal ones as they stand.

        Args:
            by: a field or fields, the first one counting most.
            ascending: the direction, or one for each field.
        """
        if isinstance(by, str) and ascending is True and by in self.interaction:
            values = self.interaction[by]
            if values.dim() == 1:
                self._reindex(stable_order(values.numpy()))
                return
        super().sort(by, ascending)

    def add_prefix(self, prefix: str) -> None:
        """Put ``prefix`` before the name of every field."""
        self.interaction = self.interaction.renamed(prefix)

    def _reindex(self, index: Index) -> None:
        self.interaction = self.interaction.select(_as_index(index))

    def __str__(self) -> str:
        shapes = [
            f"    {field}, {torch.Size([self.length, *values.shape[1:]])}, {values.device.type}, {values.dtype}"
            for field, values in self.interaction.select(slice(0, 1)).gather().items()
        ]
        return "\n".join([f"The batch_size of interaction: {self.length}", *shapes, "\n"])


def _take(values: Tensor, index: slice | Tensor) -> Tensor:
    """``values[index]`` for a slice, booleans or places (n,) from 0 on, which take a tenth of the time this way."""
    if isinstance(index, Tensor) and index.dtype != torch.bool:
        return values.index_select(0, index)
    return values[index]


def _as_index(index: Any) -> slice | Tensor:
    """``index`` as something that a tensor takes in one step: a slice, or an int64 or bool tensor."""
    if isinstance(index, slice):
        return index
    if not isinstance(index, Tensor):
        index = np.asarray(index)
        if index.size == 0:
            index = index.astype(np.int64)
        index = torch.from_numpy(np.ascontiguousarray(index))
    return index if index.dtype == torch.bool else index.long()


def prefixes_of(users: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and lengths of all samples: each interaction but a user's first, after the up to L before it.

    Args:
        users: int64 (R,), the user of each interaction, equal ones side by side.
        max_length: L, the longest history.

    Returns:
        Rows of the targets in order, (N,), and lengths of their histories, (N,): int32 where that is enough.
    """
    first = first_rows(users)
    rows = np.arange(len(users), dtype=first.dtype)
    target = rows[rows != first]
    length = target - first[target]
    return target, np.minimum(length, max_length, out=length)


def first_rows(users: np.ndarray) -> np.ndarray:
    """The row of each user's first interaction, for every row.

    Args:
        users: int64 (R,), the user of each interaction, equal ones side by side.

    Returns:
        (R,), int32 where that is enough.
    """
    kind = np.int32 if len(users) < 2**31 else np.int64
    first = np.arange(len(users), dtype=kind)
    first[1:][users[1:] == users[:-1]] = 0
    return np.maximum.accumulate(first, out=first)


def pad_latest(lists: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The last entries of each list, padded with zeros on the right.

    Args:
        lists: N arrays of one dtype.
        length: L, how many entries to keep.

    Returns:
        (N, L).
    """
    sizes = np.array([len(values) for values in lists])
    kept = np.minimum(sizes, length)
    flat = np.concatenate(lists)
    padded = np.zeros((len(lists), length), dtype=flat.dtype)
    valid = np.arange(length) < kept[:, None]
    padded[valid] = flat[((np.cumsum(sizes) - kept)[:, None] + np.arange(length))[valid]]
    return padded
