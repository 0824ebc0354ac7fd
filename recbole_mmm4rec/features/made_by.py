"""What made the features of a data set, noted in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.json_lines import Fields, check_fields, is_flag, is_table, is_text, or_none
from recbole_mmm4rec.features.manifest import Manifest

ENCODERS = "feature_encoders"
"""Config key: modality to what made its features; checkpoints hold it with the rest."""
LACKING = "lacking"
"""Key of a modality's note: whether items lacked it, in this training or one that it started from, so that the vector
in its place was learned. None where that is not known; the notes of older checkpoints do not have it."""

_FIRST: Fields = {"encoder": is_text, "hash": or_none(is_text), "settings": is_table}
_LATER: Fields = {"normalized": is_flag, LACKING: or_none(is_flag)}


def note_encoders(dataset: Any) -> dict[str, dict[str, Any]]:
    """What made the features of a data set, and whether items lack them, for its checkpoints.

    Args:
        dataset: a data set with ``feature_tables``; one without notes nothing.
    """
    tables: Any = getattr(dataset, "feature_tables", None)
    return {
        modality: {**note(manifest), LACKING: not bool(tables.present[modality][1:].all())}
        for modality, manifest in getattr(tables, "manifests", {}).items()
    }


def note(manifest: Manifest) -> dict[str, Any]:
    """What made the features of a store."""
    how = {key: value for key, value in manifest.settings.items() if key != "column"}
    made = {"encoder": manifest.encoder, "hash": manifest.encoder_hash, "settings": how}
    return {**made, "normalized": manifest.normalized}


def read_note(settings: Mapping[str, Any], path: str) -> dict[str, dict[str, Any]]:
    """What :func:`note_encoders` has noted in a checkpoint, by modality; nothing where it has noted nothing.

    Args:
        settings: of the checkpoint.
        path: its file, for the message.

    Raises:
        UserError: the note has another form.
    """
    found = settings.get(ENCODERS) or {}
    if not is_table(found) or not all(is_text(modality) and _is_note(made) for modality, made in found.items()):
        raise UserError(
            f"pretrained={path!r} does not fit: what it says of its features ({ENCODERS}) cannot be read, for it is "
            "damaged or of another program; give another checkpoint"
        )
    return dict(found)


def _is_note(made: Any) -> bool:
    try:
        check_fields(made, _FIRST, _LATER)
    except (ValueError, TypeError):  # the latter of what is no table, or quotes what is no JSON
        return False
    return True
