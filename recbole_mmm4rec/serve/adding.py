"""Items that are added while the service runs, in memory alone."""

from __future__ import annotations

from recbole_mmm4rec.serve.current import Current
from recbole_mmm4rec.serve.limits import Limits, RefusedError, check_count
from recbole_mmm4rec.serve.schemas import AddAsked


def add(current: Current, asked: AddAsked, limits: Limits) -> bytes:
    """Make items recommendable."""
    check_count(f"items: {len(asked.items):,}", len(asked.items), limits.added)
    raise RefusedError(501, "items cannot be added yet")
