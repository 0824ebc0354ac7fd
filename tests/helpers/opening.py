"""Files that cannot be opened, also where Python 3.10's ``pathlib`` has hold of ``io.open`` itself."""

from __future__ import annotations

import builtins
import io
import pathlib
from collections.abc import Callable
from typing import Any

import pytest


def replace_open(patch: pytest.MonkeyPatch, function: Callable[..., Any]) -> None:
    """Let a function open every file."""
    patch.setattr(io, "open", function)
    patch.setattr(builtins, "open", function)
    accessor = getattr(pathlib, "_NormalAccessor", None)
    if accessor is not None:
        patch.setattr(accessor, "open", staticmethod(function))
