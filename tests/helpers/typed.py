"""A command as it is typed, run in this process."""

from __future__ import annotations

from dataset_prep.cli import main


def run(line: str) -> int:
    """The exit status of ``python -m dataset_prep`` with these words."""
    return main(line.split())
