"""Files of PyTorch's that hold tensors and plain values alone; nothing else in them is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_SEEN = 2_000
"""Characters in which PyTorch looks for what its refusal is about."""


class _ShortSighted:
    """The module ``re``, whose search sees the beginning of a text."""

    @staticmethod
    def search(pattern: Any, string: str, flags: int = 0) -> Any:
        """As ``re.search``."""
        return re.search(pattern, string[:_SEEN], flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(re, name)


def load_tensors(path: Path, mapped: bool = False) -> Any:
    """What a file that ``torch.save`` has written holds, on the processor.

    PyTorch words its refusal by searches that take a minute in a name of 40,000 characters (torch/serialization.py,
    ``_get_wo_message``); here they see its beginning alone.

    Args:
        path: the file.
        mapped: leave the tensors on disk; of a zip archive alone.

    Raises:
        pickle.UnpicklingError: it holds more than tensors and plain values.
        Exception: of any kind, for a damaged file.
    """
    import torch

    if not isinstance(torch.serialization.re, _ShortSighted):
        vars(torch.serialization)["re"] = _ShortSighted()
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
