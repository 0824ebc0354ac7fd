"""Which run a file belongs to: the same data and settings, wherever and on whatever it is computed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.files import file_hash
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.results import CHANGES, results_of
from recbole_mmm4rec.settings.setting import Counts

NO_MATTER = frozenset(names(Counts.RESUMED))
"""Keys that may differ between a run and the one that goes on with it."""
NOTED_LATER = frozenset({"normalized", "lacking"})
"""What notes of features have not said from the first; the data files and the start decide it, which count already."""


def run_id(config: Any) -> str:
    """Eight characters that are the same for the same data files and settings, as long as their results are.

    Args:
        config: RecBole's configuration, after its data set was made. ``epochs`` counts only where the learning rate
            depends on it, so that a finished run can be made longer. ``pretrained`` counts by what the file holds: its
            training gone on with is another start, and a copy is the same.
    """
    settings = {key: value for key, value in config.final_config_dict.items() if key not in NO_MATTER}
    if config["lr_schedule"] in (None, "constant"):
        settings.pop("epochs", None)
    if (source := settings.get("pretrained")) and Path(source).is_file():
        settings["pretrained"] = file_hash(source)
    if features := settings.get("feature_encoders"):
        settings["feature_encoders"] = {
            modality: {key: value for key, value in made.items() if key not in NOTED_LATER}
            for modality, made in features.items()
        }
    lines = [f"{key}={settings[key]!r}" for key in sorted(settings)]
    results = results_of(config["model"], config.final_config_dict, of_training=True)
    if results != CHANGES[0].number:  # files of before that table have no number in their names
        lines.append(f"results={results}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
