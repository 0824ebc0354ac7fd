"""What a run's result depends on, as short hashes: the data set's files, and everything else."""

from __future__ import annotations

import base64
import glob
import hashlib
import inspect
import json
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.compat.caches import FINGERPRINT_KEY
from recbole_mmm4rec.settings.registry import names
from recbole_mmm4rec.settings.setting import Counts

OF_THE_MACHINE = frozenset(names(Counts.COMMAND))
"""Settings that do not change a result, or that each run of a comparison has for itself."""
NOT_RESOLVED = OF_THE_MACHINE | {*names(Counts.RESUMED), FINGERPRINT_KEY}
"""Settings that are no part of the hash of all settings."""
WITHOUT_INFLUENCE = frozenset(names(Counts.RESUMED)) - {"stopping_step", "metric_decimal_place", "nan_policy"}
"""Settings that change neither training nor ranks: where files lie, what is kept and shown, what is done at once."""

_FILES = (".inter", ".item", ".user", ".kg", ".link", ".net")


def fingerprint(folder: Path, features: Path | None = None) -> str:
    """The hash of a data set: its atomic files and feature stores, byte by byte.

    Args:
        folder: ``DATA_PATH/NAME``.
        features: where its stores are; ``features`` in its folder by default.
    """
    features = features or folder / "features"
    files = sorted(file for file in folder.glob(f"{glob.escape(folder.name)}*.*") if file.suffix in _FILES)
    stores = features.glob("*/*")
    files += sorted(file for file in stores if file.is_file() and not file.parent.name.startswith("."))
    total = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder) if file.parent == folder else Path("features") / file.relative_to(features)
        total.update(f"{name}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while part := content.read(2**20):
                total.update(part)
    return total.hexdigest()[:16]


def data_mark(config: Any) -> str:
    """The fingerprint of a configuration's data set, its feature stores among them."""
    features = config["feature_path"]
    return fingerprint(Path(config["data_path"]), Path(features) if features else None)


def resolved(settings: Mapping[str, Any], left_out: Collection[str]) -> str:
    """The hash of all settings of a run as RecBole resolves them, defaults among them, and of what computes with them.

    Args:
        settings: RecBole's final configuration.
        left_out: keys that do not change a result, or that stand in a run's identity for themselves.
    """
    lines = [f"{key}={settings[key]!r}" for key in sorted(settings) if key not in left_out]
    lines += [f"{name} {version(name)}" for name in ("recbole", "torch")]
    lines += _own_code(str(settings["model"]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _own_code(model: str) -> list[str]:
    """The hash of a model's file where no version tells of it: a model of one's own, or one that was changed."""
    from recbole.utils import get_model

    found = get_model(model)
    if found.__module__.startswith("recbole_mmm4rec."):
        return []
    file = Path(inspect.getfile(found)).resolve()
    digest = hash_file(file)
    return [] if _installed().get(file) == digest else [f"code {digest}"]


@cache
def _installed() -> dict[Path, str]:
    """The files of RecBole's models and their hashes, as they were installed."""
    files = [file for file in distribution("recbole").files or () if file.parts[:2] == ("recbole", "model")]
    hashes = [(Path(str(file.locate())).resolve(), file.hash.value) for file in files if file.hash]
    return {file: base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex() for file, value in hashes}


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that change neither training nor ranks."""
    return {key: value for key, value in settings.items() if key not in WITHOUT_INFLUENCE}


def identity(parts: Mapping[str, Any]) -> str:
    """The name of a run: the hash of all that decides its result.

    Args:
        parts: plain values, for example the model, its settings and the seed.
    """
    text = json.dumps(dict(parts), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
