"""The models that there are: RecBole's and ours."""

from __future__ import annotations

import pkgutil
from importlib.util import find_spec
from pathlib import Path

from recbole_mmm4rec.settings.defaults import recbole_properties
from recbole_mmm4rec.settings.homes import HOMES, MODEL_MODULES


def model_modules() -> dict[str, str]:
    """Full names of the modules of RecBole's models and ours, by lower-case model name."""
    spec = find_spec("recbole.model")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folders = list(spec.submodule_search_locations)
    found = {name.lower(): module for module, name in MODEL_MODULES.items()}
    for package in pkgutil.iter_modules(folders):
        if package.ispkg:
            for module in pkgutil.iter_modules([str(Path(folders[0]) / package.name)]):
                found.setdefault(module.name, f"recbole.model.{package.name}.{module.name}")
    return found


def model_names() -> list[str]:
    """Names of all models that RecBole knows, ours among them, in RecBole's spelling."""
    return sorted({*HOMES, *(file.stem for file in (recbole_properties() / "model").glob("*.yaml"))})
