"""All that a model folder holds, in memory or mapped: what is written, and what is read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recbole_mmm4rec.network import MMM4RecNetwork
from recbole_mmm4rec.network.items import ItemSide

if TYPE_CHECKING:  # the counts import SciPy
    from recbole_mmm4rec.scoring.neighbours import Counts

OURS = {"popularity": pa.int64(), "has_text": pa.bool_(), "has_image": pa.bool_()}
"""Columns of the items that a training adds; a column of the item file with such a name is called ``item_…``."""
NO_PART = 3
"""The part of an interaction that no model is trained on or asked for: it stands in a history alone."""


@dataclass
class Contents:
    """All that a model folder holds.

    Attributes:
        model: its name.
        dataset: name of the data set.
        network: with its weights.
        side: what scoring needs of the items.
        items: I rows in the order of item numbers: ``item_id``, ``text``, columns of the item file, :data:`OURS`.
        interactions: ``user_id``, ``item`` (number), ``timestamp``, ``part`` (0 training, 1 validation, 2 test,
            :data:`NO_PART`), by user and time.
        run: plain settings of the training.
        encoders: modality to what its feature store says about itself.
        counts: the neighbours; None where they are off.
        neighbours: their settings ``weight``, ``window`` and ``decay``.
        pictures: (I,) JPEGs, null where an item has none; None without pictures.
        metrics: see metrics.py.
    """

    model: str
    dataset: str
    network: MMM4RecNetwork
    side: ItemSide
    items: pa.Table
    interactions: pa.Table | None = None
    run: dict[str, Any] = field(default_factory=dict)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: Counts | None = None
    neighbours: dict[str, Any] | None = None
    pictures: pa.Array | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
