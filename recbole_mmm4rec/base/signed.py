"""Files that only the user who has written them reads again: marked with a key that lies in the user's own folder."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from recbole_mmm4rec.base.files import whole_file

_MARK = b"mmm4rec signed 1\n"
_KEY_BYTES = 32


def key_file() -> Path:
    """Where the key lies: ``$XDG_STATE_HOME/recbole_mmm4rec/key``, by default under ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "recbole_mmm4rec" / "key"


def _key(make: bool) -> bytes | None:
    """The user's key; None where there is none, or it is not the user's alone.

    Args:
        make: make one where there is none.

    Raises:
        OSError: it cannot be made.
    """
    file = key_file()
    if make and not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f".key.{os.getpid()}.tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(temporary, file)  # of two that make one, the first counts
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    try:
        with file.open("rb") as opened:
            told = os.fstat(opened.fileno())
            key = opened.read(_KEY_BYTES + 1)
    except (OSError, RuntimeError):
        return None
    own = told.st_uid == os.getuid() and not told.st_mode & 0o077
    return key if own and len(key) == _KEY_BYTES else None


def write_signed(path: Path, content: bytes) -> bool:
    """Write a file that :func:`read_signed` gives back to this user alone.

    Returns:
        whether it was written: not where the user has no folder for a key.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        key = _key(make=True)
    except OSError:
        key = None
    if key is None:
        return False
    with whole_file(path) as file:
        file.write(_MARK + hmac.digest(key, content, "sha256"))
        file.write(content)
    return True


def read_signed(path: Path) -> bytes | None:
    """The content of a file that this user has written with :func:`write_signed`; None of any other file.

    Raises:
        OSError: it cannot be read.
    """
    whole = path.read_bytes()
    head = len(_MARK) + hashlib.sha256().digest_size
    key = _key(make=False)
    if key is None or not whole.startswith(_MARK):
        return None
    content = memoryview(whole)[head:]
    right = hmac.compare_digest(whole[len(_MARK) : head], hmac.digest(key, content, "sha256"))
    return bytes(content) if right else None
