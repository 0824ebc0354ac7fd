"""Writes a data set's files beside their places, then moves them in; never over another data set unasked."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.files import hash_file
from recbole_mmm4rec.base.json_lines import read_line

FORMAT = 1

logger = logging.getLogger(__name__)


def replace_file(path: Path, lines: Iterable[str]) -> None:
    """Writes text beside ``path`` and moves it there; on an error the old file stays and nothing else does."""
    part = part_of(path)
    try:
        _write(part, lines)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where the next content of ``path`` is being written; a fixed name, so that the next run takes up leftovers."""
    return path.with_name(f".{path.name}.tmp")


def publish(
    folder: Path,
    name: str,
    files: Mapping[str, Iterable[str]],
    record: dict[str, Any],
    force: bool,
    remove_untrue: Callable[[Path, str, Path], list[str]],
) -> bool:
    """Puts a data set's atomic files and ``NAME.prep.json`` in place, and removes what was of another set there.

    Args:
        folder: ``OUT/NAME``.
        name: of the data set.
        files: lines by suffix ("inter", "item", "user"), "item" among them.
        record: what ``NAME.prep.json`` says beside the hashes of the outputs; its "source", "options" and "inputs"
            are what the set was made from.
        force: replace another set of this name.
        remove_untrue: given folder, name and the new ``.item`` file, removes what was made of the set there and is not
            true of the new one; says what that was.

    Returns:
        False when everything was in place already.

    Raises:
        UserError: another set of this name is there and ``force`` is False.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = {suffix: folder / f"{name}.{suffix}" for suffix in files}
    manifest_file = folder / f"{name}.prep.json"
    try:
        for suffix, lines in files.items():
            _write(part_of(targets[suffix]), lines)
        outputs = {target.name: hash_file(part_of(target)) for target in targets.values()}
        manifest = {**record, "format": FORMAT, "name": name, "outputs": outputs}
        old = _read_manifest(manifest_file)
        found = {target.name: hash_file(target) for target in targets.values() if target.is_file()}
        if old == manifest and found == outputs:
            return False
        foreign = [file_name for file_name, digest in found.items() if digest != outputs[file_name]]
        if foreign and not force and not _same_origin(old, manifest):
            raise UserError(f"{folder} holds another data set ({foreign[0]} differs); use --force, or another --name")
        # Before the tables move: should the run die here, the next one finds the same difference. Then the record: it
        # lets the next one know the files for its own, should this one die between two moves.
        removed = remove_untrue(folder, name, part_of(targets["item"]))
        removed += _remove_stale(folder, name, old, outputs, bool(foreign) and not _same_origin(old, manifest))
        if removed:
            logger.warning("%s: removed, for it belonged to the set before: %s", folder, ", ".join(removed))
        replace_file(manifest_file, [json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False), "\n"])
        for target in targets.values():
            os.replace(part_of(target), target)
    finally:
        for target in targets.values():
            part_of(target).unlink(missing_ok=True)
    return True


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(lines)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return read_line(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}  # none, or not ours: the files themselves are compared


def _same_origin(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return all(old.get(key) == new[key] for key in ("source", "options", "inputs"))


def _remove_stale(folder: Path, name: str, old: dict[str, Any], outputs: Mapping[str, str], another: bool) -> list[str]:
    """Removes tables that the new set has not; returns those that no preparation wrote."""
    recorded = old.get("outputs")
    stale = [*recorded] if isinstance(recorded, dict) else []
    # RecBole loads every NAME.user it finds: one of the replaced set would add its users to the new one.
    user = f"{name}.user"
    by_hand = [user] if another and user not in {*outputs, *stale} and (folder / user).is_file() else []
    for file_name in [*stale, *by_hand]:
        if file_name not in outputs and Path(file_name).name == file_name:
            (folder / file_name).unlink(missing_ok=True)
    return by_hand
