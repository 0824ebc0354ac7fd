"""How hints and mistakes name our commands: as ``mmm4rec``, or as ``python …`` where the user has typed that."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BY_PYTHON = {"prep": "python -m dataset_prep", "train": "python run_recbole.py"}
_typed = ""


@contextmanager
def typed(prog: str) -> Iterator[None]:
    """Within it runs a command that the user has called ``prog``; empty: nothing is changed."""
    global _typed
    before, _typed = _typed, prog or _typed
    try:
        yield
    finally:
        _typed = before


def called(command: str) -> str:
    """What the user types for a command, such as ``prep``."""
    return _BY_PYTHON.get(command, f"mmm4rec {command}") if _typed.startswith("python") else f"mmm4rec {command}"


def prepare(subcommand: str, folder: Path, *options: str) -> str:
    """What the user types to prepare something of a data set.

    Args:
        subcommand: of ``prep``.
        folder: of the data set.
        options: further words.
    """
    out = [] if str(folder.parent) == "dataset" else ["--out", shlex.quote(str(folder.parent))]
    return " ".join([called("prep"), subcommand, folder.name, *out, *options])
