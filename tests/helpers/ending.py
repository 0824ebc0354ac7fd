"""What a started process may do before it ends; little is imported, for every process begins with that."""

from __future__ import annotations

from typing import Any

from recbole_mmm4rec.base.errors import UserError


def refuse(number: int, queue: Any) -> None:
    """End as a user's mistake does."""
    queue.put(UserError("topk=0: too little"))
    raise SystemExit(2)


def fill_the_pipe(number: int, queue: Any) -> None:
    """Put more than a pipe holds."""
    queue.put("x" * 2**20)


def end_badly(number: int, queue: Any) -> None:
    """Fail after the result."""
    queue.put({"result": 1})
    raise RuntimeError("the cable is cut")


def fail(number: int, queue: Any) -> None:
    """Fail without a result."""
    raise RuntimeError("the cable is cut")
