"""Standing in another folder for a while; `contextlib.chdir` is not in Python 3.10."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def standing_in(folder: str | Path) -> Iterator[None]:
    """Make a folder the one in which the program stands, and go back at the end."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
