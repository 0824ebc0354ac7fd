"""What lies in a model folder, and under which names."""

from __future__ import annotations

FORMAT = 1
"""Raised when a folder can no longer be read by the program before."""

MANIFEST = "manifest.json"
"""Format, versions, and bytes and hash of every other file."""
SETTINGS = "settings.json"
"""The network's settings, and all plain ones of the run."""
WEIGHTS = "weights.safetensors"
"""The network's parameters."""
SIDE = "item_side.safetensors"
"""``fused`` and ``table.MODALITY``, (I+1, D) each: what scoring needs of the items."""
ITEMS = "items.parquet"
"""One row an item in the order of its number, from 1."""
PICTURES = "pictures.arrow"
"""Small JPEGs in the same order; only where the data set has pictures."""
ENCODERS = "encoders.json"
"""Modality to what its feature store says about itself."""
NEIGHBOURS = "neighbours.safetensors"
"""The counts; only where neighbours are on."""
INTERACTIONS = "interactions.parquet"
"""All interactions, by user and time, each with the part of the split whose target it was."""
METRICS = "metrics.json"
"""Metrics of validation and test, with intervals, and with a modality withheld."""
CARD = "MODEL_CARD.md"
"""The same for a reader."""


def features(modality: str) -> str:
    """The raw features of a modality, (I+1, F), ``values``; row 0 is padding."""
    return f"features/{modality}.safetensors"
