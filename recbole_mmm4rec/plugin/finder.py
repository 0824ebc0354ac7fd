"""How RecBole finds our model, data set, trainer and YAML, whichever of the two packages is imported first.

RecBole looks for a model by module name, and for data sets and trainers by attribute. A finder on ``sys.meta_path``
answers for the one module name, and runs small functions right after certain RecBole modules have been executed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import logging
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from recbole_mmm4rec import compat
from recbole_mmm4rec.base.errors import MissingPackageError
from recbole_mmm4rec.plugin.hooks import HOOKS, Hook
from recbole_mmm4rec.settings.homes import HOMES, MODEL_MODULES

logger = logging.getLogger(__name__)

_hooks: dict[str, list[str | Hook]] = {name: list(hooks) for name, hooks in HOOKS.items()}


def after_import(module_name: str, hook: str | Hook) -> None:
    """Run a function on a RecBole module as soon as that has been executed; at once where it already was.

    Args:
        module_name: full name of the module, for example ``recbole.data.dataset.dataset``.
        hook: a function of the module, or ``"package.module:function"``, which is only imported when it is needed.
    """
    _hooks.setdefault(module_name, []).append(hook)
    if module_name in sys.modules:
        _call(hook, sys.modules[module_name])


def register() -> None:
    """Make RecBole know our classes and settings, and repair it; calling it twice changes nothing."""
    if any(isinstance(finder, PluginFinder) for finder in sys.meta_path):
        return
    # from Python 3.12 on its doc strings' backslashes are told of wherever its files cannot be kept compiled
    warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*[\\/]recbole[\\/]")
    loaded = [name for name in list(sys.modules) if name.partition(".")[0] == "recbole"]
    sys.meta_path.insert(0, PluginFinder())
    for name in loaded:
        _run_hooks(sys.modules[name])


class PluginFinder(importlib.abc.MetaPathFinder):
    """Answers for the modules of our models, and wraps the loaders of the RecBole modules that have hooks."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of ours or of one with hooks; None for every other name.

        Raises:
            MissingPackageError: RecBole is asked for and not installed.
        """
        if fullname in MODEL_MODULES:
            return ModuleSpec(fullname, _ModelLoader(), origin=HOMES[MODEL_MODULES[fullname]])
        if fullname.partition(".")[0] != "recbole" or not _has_hooks(fullname):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _HookedLoader(spec.loader)
                return spec
        if fullname == "recbole":
            raise MissingPackageError(f"RecBole is not installed: {compat.INSTALL_RECBOLE}", name=fullname)
        return None


class _ModelLoader(importlib.abc.Loader):
    """Fills a module that RecBole asks for with our model class."""

    def exec_module(self, module: ModuleType) -> None:
        name = MODEL_MODULES[module.__name__]
        setattr(module, name, getattr(importlib.import_module(HOMES[name]), name))


class _HookedLoader(importlib.abc.Loader):
    """A real loader with hooks around the execution of the module; everything else is the real loader's."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._real.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        with compat.while_importing(module.__name__):
            self._real.exec_module(module)
        _run_hooks(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _has_hooks(module_name: str) -> bool:
    return module_name in _hooks or module_name in compat.REPAIRS or module_name in compat.DURING_IMPORT


def _run_hooks(module: ModuleType) -> None:
    for hook in (*compat.repairs_of(module.__name__), *_hooks.get(module.__name__, ())):
        _call(hook, module)


def _call(hook: str | Hook, module: ModuleType) -> None:
    function = pkgutil.resolve_name(hook) if isinstance(hook, str) else hook
    function(module)
    logger.debug("%s: %s", module.__name__, function.__name__)
