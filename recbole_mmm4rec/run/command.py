"""What long commands have in common: packages that must be there, a folder for one command at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

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


@contextmanager
def alone(out: Path, what: str) -> Iterator[None]:
    """Make a folder of results, and keep two commands from working in it; a kill ends the claim.

    Args:
        out: the folder.
        what: works there, for messages.

    Raises:
        UserError: it cannot be made or written to, or another command works there.
    """
    import fcntl

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"--out {out}: no folder to write to ({error.strerror}); name another") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out {out}: another {what} is running there; wait for it, or name another") from None
        yield
