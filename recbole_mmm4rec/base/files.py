"""Files: written whole, known by the hash of their bytes."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: str | Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when all of it has been written.

    Args:
        path: its name; parts of it that processes of this machine have left when they were killed are removed.
        durable: it is on the disk, also after a loss of power, before this returns.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        number = part.name.split(".")[-2]
        if number.isdecimal() and not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            part.unlink(missing_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def file_hash(path: str | Path) -> str:
    """The hash of a file's bytes."""
    total = hashlib.sha256()
    with open(path, "rb") as content:
        while part := content.read(2**20):
            total.update(part)
    return total.hexdigest()[:16]
