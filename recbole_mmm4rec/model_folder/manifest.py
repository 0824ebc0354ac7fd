"""The list of a model folder's files with their bytes and hashes: what tells a folder that was cut off or changed."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from recbole_mmm4rec.base import json_lines as kind
from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file, names_a_file
from recbole_mmm4rec.model_folder.layout import FORMAT, MANIFEST

T = TypeVar("T")

_PACKAGES = ("recbole-mmm4rec", "torch", "numpy", "recbole", "pyarrow", "safetensors")
SMALL = 2**20
"""Bytes of a file whose hash takes no time."""
READINGS = 5
"""Of a folder that others replace all the time, before one is told that it does not fit together."""


def _is_name(value: Any) -> bool:
    """Whether a folder can have it for its name, and lies where it was meant to lie."""
    return kind.is_text(value) and value not in ("", ".", "..") and not set(value) & set("/\\\0")


_FIELDS = {"model": kind.is_text, "dataset": _is_name, "made": kind.is_date, "versions": kind.is_table}
_FILE = {"bytes": kind.is_count, "sha256": kind.is_text}


def write_manifest(folder: Path, model: str, dataset: str) -> None:
    """List all files of a folder, the last thing that is written.

    Args:
        folder: with all other files.
        model: its name.
        dataset: name of the data set.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    listed = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": hash_file(file)} for file in files
    }
    record = {
        "format": FORMAT,
        "model": model,
        "dataset": dataset,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions(_PACKAGES)},
        "files": listed,
    }
    (folder / MANIFEST).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files are all there with their bytes; hashes are looked at by :func:`check_file`.

    Raises:
        UserError: no folder, no manifest, one of a newer program, or a file that is missing or cut off.
    """
    file = folder / MANIFEST
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such model folder; `mmm4rec train --dataset=NAME` makes one")
    try:
        record = kind.read_line(file.read_bytes())
        found = record.get("format")
        if isinstance(found, int) and found > FORMAT:
            raise UserError(
                f"{folder}: a model folder of format {found}, this program reads format {FORMAT}; install a newer one"
            )
        kind.check_fields(record, {"format": kind.is_count, **_FIELDS, "files": kind.table_of(kind.is_table)})
        for listed in record["files"].values():
            kind.check_fields(listed, _FILE)
    except FileNotFoundError:
        raise UserError(f"{folder}: no model folder, there is no {MANIFEST} in it") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{file}: it {error}; copy the model folder again, or train again") from None
    for name, listed in record["files"].items():
        _check_size(folder, name, listed["bytes"])
    return record


def _check_size(folder: Path, name: str, wanted: int) -> None:
    place = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:  # links to a cache elsewhere are fine
        raise UserError(f"{folder / MANIFEST}: names {name!r}, which is outside of the folder; get the folder again")
    if not names_a_file(place):
        raise UserError(f"{place}: missing; copy the model folder again, or train again")
    found = place.stat().st_size
    if found != wanted:
        raise UserError(f"{place}: has {found} bytes, {MANIFEST} says {wanted}; copy the model folder again")


def look_at(folder: str | Path) -> None:
    """What a command asks before it imports PyTorch: files that are all there, and small ones with their hashes.

    Raises:
        UserError: as for :func:`read_manifest` and :func:`check_file`.
    """
    of_one_folder(folder, lambda: _look_at(Path(folder)))


def _look_at(place: Path) -> None:
    for name, listed in read_manifest(place)["files"].items():
        if listed["bytes"] <= SMALL:
            check_file(place, name, listed)


def of_one_folder(folder: str | Path, read: Callable[[], T]) -> T:
    """What ``read`` gives; once more where another command has put a new folder in the place of this one meanwhile.

    Raises:
        UserError, OSError: as ``read``.
    """
    manifest = Path(folder) / MANIFEST
    for _ in range(READINGS):
        before = _mark(manifest)
        try:
            found = read()
        except (UserError, OSError):
            if _mark(manifest) == before:
                raise
        else:
            if _mark(manifest) == before:
                return found
    return read()


def _mark(file: Path) -> tuple[int, int] | None:
    """What changes with another file of the name; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def check_file(folder: Path, name: str, listed: dict[str, Any]) -> Path:
    """A file of a folder whose bytes are what the manifest says.

    Raises:
        UserError: they are not.
    """
    place = folder / name
    if hash_file(place) != listed["sha256"]:
        raise UserError(f"{place}: changed since it was written (its sha256 is another); copy the model folder again")
    return place
