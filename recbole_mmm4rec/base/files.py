"""Files: written whole, known by the hash of their bytes."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from recbole_mmm4rec.base.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = re.compile(r"\d+ requested and \d+ written")
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR)


@contextmanager
def whole_file(path: str | Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when all of it has been written.

    Args:
        path: its name; parts of it that processes of this machine have left when they were killed are removed.
        durable: it is on the disk, also after a loss of power, before this returns.

    Raises:
        UserError: the disk is full, or nothing can be written there; what had the name before is as it was.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for part in _left(target):
            part.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, RuntimeError) as error:
        full = no_room(error)
        reason, way_out = full or _no_right(error), "make room" if full else "let its folder be written to"
        if not reason:
            raise
        raise UserError(
            f"{str(path)!r} cannot be written: {reason}; {way_out} (what had that name before is as it was)"
        ) from error
    finally:
        with suppress(OSError):  # a folder that has become read-only keeps it
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A folder that appears under its name only when all of it has been written.

    Args:
        path: its name; an older folder of that name stays until the new one takes its place, and a link to one stays
            a link to its place. Parts that killed processes of this machine have left are removed.

    Yields:
        The folder to write to, beside it.

    Raises:
        UserError: the disk is full, or nothing can be written there; what had the name before is as it was.
    """
    target = Path(os.path.realpath(path))
    aside = target.with_name(f".{target.name}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for part in _left(target):
            shutil.rmtree(part, ignore_errors=True)
        if aside.exists() and not target.exists():  # a kill between the two renames
            os.replace(aside, target)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            shutil.rmtree(aside, ignore_errors=True)
            if target.exists() and exchanged(temporary, target):
                return
            if target.exists():
                os.replace(target, aside)
            os.replace(temporary, target)
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        reason = no_room(error) or _no_right(error)
        if not reason:
            raise
        raise UserError(
            f"{str(path)!r} cannot be written: {reason}; make room, or name another place (what had that name before "
            "is as it was)"
        ) from error


def _left(target: Path) -> Iterator[Path]:
    """Parts that processes of this machine have left when they were killed."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        number = part.name.split(".")[-2]
        if number.isdecimal() and not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            yield part


def exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step, so that each always stands for something; False where the system cannot."""
    import ctypes

    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0)


def _no_right(error: Exception) -> str:
    """What the system says where nothing may be written; empty for any other error."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno in _NO_RIGHT else ""


def no_room(error: BaseException | None) -> str:
    """What the system says where a file found no room, also where PyTorch wraps it; empty for any other error.

    NumPy says how many bytes were written, without the error's number; FAISS and DuckDB quote the system.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return os.strerror(error.errno)
        said = str(error)
        if isinstance(error, OSError) and _SHORT.fullmatch(said):
            return os.strerror(errno.ENOSPC)
        for reason in map(os.strerror, _NO_ROOM):
            if reason in said:
                return reason
        error = error.__context__
    return ""


def writable_folder(path: str | Path, named: str) -> None:
    """Make a folder and see whether files can be written there.

    Args:
        path: the folder.
        named: how it is named in the message, for example ``checkpoint_dir='saved'``.

    Raises:
        UserError: it cannot be made, or not be written to.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{named}: no folder to write to ({error.strerror})") from None


def names_a_file(path: Path) -> bool:
    """Whether there is a file of that name; False for a name that no file can have, such as one of 1,000 characters."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def file_hash(path: str | Path) -> str:
    """The first 16 digits of :func:`hash_file`."""
    return hash_file(path)[:16]


def hash_file(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
