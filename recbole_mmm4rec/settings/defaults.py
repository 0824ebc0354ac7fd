"""The files with the default settings of our models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_mmm4rec.settings.reading import read_yaml


def properties_dir() -> Path:
    """The folder of our default settings: inside an installed package, at the top of a repository otherwise."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "properties"
    return installed if installed.is_dir() else package.parent / "properties"


@cache
def recbole_properties() -> Path:
    """The folder of RecBole's default settings."""
    spec = find_spec("recbole")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / "properties"


@cache
def default_settings(model: str) -> Mapping[str, Any]:
    """RecBole's general default settings and those of one model."""
    merged = dict(settings_in(recbole_properties() / "overall.yaml"))
    for folder in (recbole_properties(), properties_dir()):
        merged.update(settings_in(folder / "model" / f"{model}.yaml"))
    return merged


def settings_in(file: Path) -> Mapping[str, Any]:
    """The settings in a file of defaults; none where it is missing."""
    return read_yaml(file) if file.is_file() else {}
