"""Frozen features as they are stored, read piece by piece: no float copy of a whole table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError

PIECE_BYTES = 16 * 2**20
"""Bytes of float32 features that stand in memory at a time."""

Rows = Tensor | slice
"""Item numbers, (n,) int64, or a slice of them."""


class FrozenTable:
    """A table (I+1, F) in the order of item numbers whose numbers stay where and how they lie.

    The values may be mapped from disk and of half precision; :meth:`take` alone copies and converts, and only the rows
    asked for. Nobody writes to it, so copies share it. On a GPU the values lie there, as they are stored, when they fit
    into half of its free memory; else pieces travel through pinned memory.

    Args:
        values: (S, F) float16, bfloat16, float32 or float64, on the processor.
        index: (I+1,) int64, the row of ``values`` of each item, -1 for a row of zeros; None where they are the same.
        finite: False where NaN or infinite values occur, which are read as zeros then; None: nobody has looked.
    """

    def __init__(self, values: Tensor, index: Tensor | None = None, finite: bool | None = None) -> None:
        self.values, self.index, self.finite = values, index, finite
        self.device = values.device  # where pieces are wanted

    @classmethod
    def of_array(cls, values: np.ndarray, index: np.ndarray | None = None, finite: bool | None = None) -> FrozenTable:
        """From NumPy arrays, memory-mapped ones among them, without a copy."""
        with warnings.catch_warnings():  # of a tensor whose memory is read-only: nobody writes to it
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(values)
        return cls(tensor, None if index is None else torch.from_numpy(index), finite)

    @property
    def shape(self) -> tuple[int, int]:
        """(I+1, F)."""
        return len(self.values if self.index is None else self.index), self.values.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the stored numbers."""
        return self.values.dtype

    def dim(self) -> int:
        """2, as of a tensor."""
        return self.values.dim()

    def is_view(self, rows: Rows, dtype: torch.dtype) -> bool:
        """Whether :meth:`take` gives these rows without a copy."""
        here = self.values.device == self.device and self.values.dtype == dtype
        return here and self.finite is not False and self.index is None and isinstance(rows, slice)

    def take(self, rows: Rows, dtype: torch.dtype = torch.float32) -> Tensor:
        """The features of some items.

        Args:
            rows: (n,) int64 item numbers or a slice of them.
            dtype: of the result.

        Returns:
            (n, F) on the device that the table was sent to.
        """
        home = self.values.device
        at = rows if isinstance(rows, slice) else rows.to(home)
        if self.index is None:
            piece = self.values[at] if isinstance(at, slice) else self.values.index_select(0, at)
        else:
            at = self.index[at]
            piece = self.values.index_select(0, at.clamp(min=0))
            piece.masked_fill_((at < 0).unsqueeze(1), 0)
        if home != self.device:
            piece = piece.pin_memory().to(self.device, non_blocking=True)
        piece = piece.to(dtype)
        return torch.nan_to_num(piece, nan=0.0, posinf=0.0, neginf=0.0) if self.finite is False else piece

    def bad_rows(self) -> Tensor:
        """(n,) int64 item numbers whose row holds NaN or infinite values."""
        found = [
            torch.nonzero(~torch.isfinite(self.take(piece, self.dtype)).all(1)).flatten() + piece.start
            for piece in pieces(*self.shape)
        ]
        return torch.cat(found)

    def numpy(self) -> np.ndarray:
        """The whole table, (I+1, F) float32, in memory."""
        return self.take(slice(None)).cpu().numpy()

    def to(self, device: torch.device) -> FrozenTable:
        """The table for work on ``device``; the same one if it is there."""
        if device == self.device:
            return self
        moved = FrozenTable(self.values, self.index, self.finite)
        if device.type == "cpu" or self._fits(device):
            moved.values = self.values.to(device)
            moved.index = None if self.index is None else self.index.to(device)
        moved.device = device
        return moved

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(device)
        return self.values.numel() * self.values.itemsize <= free // 2

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTable:
        return self


def checked_tables(
    features: Mapping[str, Tensor | FrozenTable], present: Mapping[str, Tensor] | None, names: Sequence[str]
) -> dict[str, FrozenTable]:
    """The feature tables as the network keeps them, looked through; nothing is copied.

    Args:
        features: (I+1, F) by modality.
        present: (I+1,) bool by modality, False where an item has none; None where all have it.
        names: the modalities that there may be, in the order of the result.

    Raises:
        UserError: an unknown or no modality, tables of different heights, NaN or infinite values, or a mask that
            does not fit.
    """
    unknown = sorted(set(features) - set(names))
    if unknown or not features:
        raise UserError(f"features must hold {' and/or '.join(map(repr, names))}, not {unknown or 'nothing'}")
    stray = sorted(set(present or {}) - set(features))
    if stray:
        raise UserError(f"present holds a mask for {stray}, but features holds {sorted(features)}")
    heights = {name: table.shape[0] for name, table in features.items()}
    if len(set(heights.values())) > 1:
        raise UserError(f"the feature tables have different numbers of rows: {heights}")
    made = {}
    for name in (name for name in names if name in features):
        table = features[name]
        if table.dim() != 2 or table.shape[0] < 2:
            raise UserError(f"features['{name}'] must be (I + 1, F) with at least one item, not {tuple(table.shape)}")
        mask = (present or {}).get(name)
        if mask is not None and mask.shape != (table.shape[0],):
            raise UserError(f"present['{name}'] must be ({table.shape[0]},), not {tuple(mask.shape)}")
        made[name] = table if isinstance(table, FrozenTable) else FrozenTable(table.detach().cpu())
        if made[name].finite is None:
            made[name] = _looked_through(name, made[name], mask)
    return made


def _looked_through(name: str, table: FrozenTable, present: Tensor | None) -> FrozenTable:
    """The table with a note whether all its numbers are finite; items that have the modality must be.

    Raises:
        UserError: NaN or infinite values of an item that is not absent.
    """
    bad = table.bad_rows()
    needed = bad[bad > 0]  # padding is not used
    if present is not None:
        needed = needed[present.cpu()[needed].bool()]
    if len(needed):
        raise UserError(
            f"features['{name}'] holds NaN or infinite values in {len(needed)} rows (first: {needed[:3].tolist()}); "
            "make the embeddings again, or mark these items as missing"
        )
    return FrozenTable(table.values, table.index, finite=len(bad) == 0)


def pieces(rows: int, width: int) -> Iterator[slice]:
    """Slices that cover ``rows`` rows, each of at most :data:`PIECE_BYTES` as float32."""
    step = max(1, PIECE_BYTES // (4 * width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
