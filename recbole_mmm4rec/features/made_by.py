"""What made the features of a data set, noted in its checkpoints."""

from __future__ import annotations

from typing import Any

ENCODERS = "feature_encoders"
"""Config key: modality to what made its features; checkpoints hold it with the rest."""


def note_encoders(dataset: Any) -> dict[str, dict[str, Any]]:
    """What made the features of a data set, for its checkpoints.

    Args:
        dataset: a data set with ``feature_tables``; one without notes nothing.
    """
    manifests = getattr(getattr(dataset, "feature_tables", None), "manifests", {})
    noted = {}
    for modality, manifest in manifests.items():
        how = {key: value for key, value in manifest.settings.items() if key != "column"}
        noted[modality] = {"encoder": manifest.encoder, "hash": manifest.encoder_hash, "settings": how}
    return noted
