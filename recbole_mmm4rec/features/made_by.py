"""What made the features of a data set, noted in its checkpoints."""

from __future__ import annotations

from typing import Any

from recbole_mmm4rec.features.manifest import Manifest

ENCODERS = "feature_encoders"
"""Config key: modality to what made its features; checkpoints hold it with the rest."""


def note_encoders(dataset: Any) -> dict[str, dict[str, Any]]:
    """What made the features of a data set, for its checkpoints.

    Args:
        dataset: a data set with ``feature_tables``; one without notes nothing.
    """
    manifests = getattr(getattr(dataset, "feature_tables", None), "manifests", {})
    return {modality: note(manifest) for modality, manifest in manifests.items()}


def note(manifest: Manifest) -> dict[str, Any]:
    """What made the features of a store."""
    how = {key: value for key, value in manifest.settings.items() if key != "column"}
    return {"encoder": manifest.encoder, "hash": manifest.encoder_hash, "settings": how}
