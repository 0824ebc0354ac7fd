"""A folder for one command at a time."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from recbole_mmm4rec.base.errors import UserError

logger = logging.getLogger(__name__)

ATTEMPTS = 100  # to make a file in a folder that others remove
# File systems of clusters that were mounted without locks; there the claim cannot be made.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextmanager
def alone(folder: Path, what: str, named: str = "") -> Iterator[bool]:
    """Make a folder, and keep two commands from working in it; a kill ends the claim.

    A folder that was made here and is still empty at the end goes again.

    Args:
        folder: for one command at a time.
        what: works there, for messages.
        named: what the folder is called in messages; by default the option ``--out`` with its path.

    Yields:
        Whether the folder is claimed; False, with a warning, where the file system has no locks.

    Raises:
        UserError: it cannot be made or written to, or another command works there.
    """
    named = named or f"--out {folder}"
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        lock, is_claimed = _claimed(folder / ".lock")
    except BlockingIOError:
        raise UserError(f"{named}: another {what} is running there; wait for it, or name another") from None
    except OSError as error:
        raise UserError(f"{named}: no folder to write to ({error.strerror}); name another") from None
    try:
        yield is_claimed
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink()
            for place in made:
                place.rmdir()
        lock.close()


def claimed(path: Path) -> IO[bytes]:
    """A file that only this process has locked, until it is closed or the process ends.

    Where the file system has no locks it is not locked, which a warning says once a folder.

    Args:
        path: of the file, which is to be removed before it is closed; folders that it lies in are made.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: it cannot be written.
    """
    return _claimed(path)[0]


def _claimed(path: Path) -> tuple[IO[bytes], bool]:
    """The file, and whether it is locked."""
    import fcntl

    attempts = 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("ab")
        except FileNotFoundError:  # the command before has just removed the folder that it had made
            attempts += 1
            if attempts > ATTEMPTS:  # it takes no files, as those of /proc
                raise
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                return lock, True
            lock.close()
        except FileNotFoundError:  # the command before has just ended and taken its file away
            lock.close()
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _warn(path.parent)
                return lock, False
            lock.close()
            raise


@cache
def _warn(folder: Path) -> None:
    """Say it once a folder."""
    logger.warning("%s: not locked, as its file system has no locks; let no other command write there", folder)
