"""Repairs of how RecBole reads settings."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from recbole_mmm4rec.base.errors import UserError, did_you_mean
from recbole_mmm4rec.compat.tools import replace_function


def literal(text: str) -> Any:
    """The value of a Python literal.

    Raises:
        NameError: for anything that is not a literal, as ``eval`` does for a bare word.
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise NameError(f"{text!r} is not a literal") from None


def read_literals(module: ModuleType) -> None:
    """Read values as literals; never run them as code.

    Broken: config/configurator.py:131 calls ``eval`` on every value of the command line and every string of a config
    dictionary, trainer/hyper_tuning.py:239 on the lines of a parameter file: ``--seed='__import__("os").…'`` runs.
    Numbers, strings, lists, tuples, dictionaries, booleans and ``None`` mean the same as before; expressions such as
    ``2**10`` are strings now. The module's own name ``eval`` hides the built-in one.
    """
    vars(module)["eval"] = literal


def read_yaml(path: str | Path, loader: Any) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Args:
        path: the file.
        loader: a loader class of PyYAML.

    Raises:
        UserError: when there is no such file, it is not YAML (with the line), or its top level is not a mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError:
        raise UserError(f"config file {str(path)!r} does not exist") from None
    except OSError as error:
        raise UserError(f"config file {str(path)!r} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise UserError(f"config file {str(path)!r}{line} is not valid YAML: {' '.join(reason.split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"config file {str(path)!r} holds a {type(content).__name__}; it must hold 'key: value' lines")
    return content


def explain_config_files(module: ModuleType) -> None:
    """Name the file, and the line, of a config file that cannot be read; accept an empty one.

    Broken: config/configurator.py:149 fails with ``'NoneType' object is not iterable`` for a file of comments only, and
    with PyYAML's traceback for others.
    """

    def _load_config_files(self: Any, file_list: list[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or ():
            merged.update(read_yaml(file, self.yaml_loader))
        return merged

    module.Config._load_config_files = _load_config_files


def model_modules() -> dict[str, str]:
    """Full names of the modules of RecBole's models and ours, by lower-case model name."""
    import recbole.model

    from recbole_mmm4rec.plugin.finder import MODEL_MODULES

    found = {name.lower(): module for module, name in MODEL_MODULES.items()}
    for package in pkgutil.iter_modules(recbole.model.__path__):
        if package.ispkg:
            folder = Path(recbole.model.__path__[0]) / package.name
            for module in pkgutil.iter_modules([str(folder)]):
                found.setdefault(module.name, f"recbole.model.{package.name}.{module.name}")
    return found


def model_names() -> list[str]:
    """Names of all models that RecBole knows, ours among them, in RecBole's spelling."""
    import recbole

    from recbole_mmm4rec.plugin.finder import HOMES

    folder = Path(recbole.__path__[0]) / "properties" / "model"
    return sorted({*HOMES, *(file.stem for file in folder.glob("*.yaml"))})


def name_unknown_models(module: ModuleType) -> None:
    """Say that a model name is unknown, and which is near.

    Broken: ``get_model`` (utils/utils.py:72) imports the package of the tree models before it gives up, so that an
    unknown name is reported as a missing ``lightgbm`` (#2172), and wrong capitals as an ``AttributeError`` (#1883).
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def get_model(model_name: str) -> Any:
            hint = did_you_mean(model_name, model_names())
            unknown = UserError(f"model={model_name!r} is not a model of RecBole or of this plug-in{hint}")
            from recbole_mmm4rec.plugin.finder import HOMES

            if model_name.lower() not in model_modules():
                raise unknown
            if model_name in HOMES:  # past the packages of all other models, which take a second to import
                return getattr(importlib.import_module(HOMES[model_name]), model_name)
            try:
                return original(model_name)
            except AttributeError as error:
                if error.name != model_name:
                    raise
                raise unknown from error

        return get_model

    replace_function(module.get_model, make)
