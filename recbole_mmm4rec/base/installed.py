"""Packages that must be there before a long command begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from recbole_mmm4rec.base.errors import UserError


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
