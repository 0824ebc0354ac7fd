"""Packages that must be there before a long command begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from recbole_mmm4rec.base.errors import UserError

NEWER_RAY = "pip install -U ray (RecBole forbids one newer than 2.6.3, which works)"
"""The way out of a ray that is too old for the packages around it: with NumPy 2, say, or without pkg_resources."""


def way_to_ray(error: Exception) -> str:
    """What to type where ray cannot be imported: it is absent, or too old."""
    absent = isinstance(error, ModuleNotFoundError) and error.name == "ray"
    return "pip install 'recbole-mmm4rec[tune]'" if absent else NEWER_RAY


def check_installed(modules: Sequence[str], extra: str) -> None:
    """Refuse to begin what could not be ended.

    Args:
        modules: that are imported later.
        extra: of this package, which brings them.

    Raises:
        UserError: one of them is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(f"{module} is not installed: pip install 'recbole-mmm4rec[{extra}]'")
