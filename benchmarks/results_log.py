"""Results on disk: what the run in progress has measured, and the last finished results of each suite."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any


class RunLog:
    """The measurements of a run in progress, one JSON line each, so that an interrupted run goes on where it was.

    Args:
        path: the file; its first line says what the run is of.
        run: what must be equal for a run to go on: machine, versions, options. Another run's log stands aside as
            ``NAME.old1``, the next one as ``NAME.old2``.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path = path
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        entries = _entries(path)
        self.resumed = bool(entries) and entries[0] == run
        if self.resumed:
            self.found = {(entry["suite"], entry["cell"]): entry for entry in entries[1:]}
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if entries[1:]:
            olds = (path.with_name(f"{path.name}.old{number}") for number in itertools.count(1))
            path.replace(next(old for old in olds if not old.exists()))  # hours of another run
        _write(path, json.dumps(run) + "\n")

    def add(self, suite: str, cell: str, stamp: dict[str, str], result: Any) -> None:
        """Keep a measurement: on disk before the next one begins."""
        entry = {"suite": suite, "cell": cell, "stamp": stamp, "result": result}
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self.found[suite, cell] = entry

    def finish(self) -> None:
        """The run is complete; the next one begins anew."""
        self.path.unlink(missing_ok=True)


def made_with(path: Path) -> dict[str, Any] | None:
    """What the log at ``path`` says its run is of; None where there is none."""
    entries = _entries(path)
    return entries[0] if entries else None


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut off is left out, from the file as well."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        _write(path, "".join(lines))
    return [json.loads(line) for line in lines]


def publish(folder: Path, suite: str, device: str, entries: list[dict[str, Any]]) -> None:
    """Replace the last finished results of a suite on a kind of device."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{suite}.{device}.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))


def published(folder: Path, suite: str, device: str) -> list[dict[str, Any]]:
    """The last finished results of a suite, empty where there are none."""
    return _entries(folder / f"{suite}.{device}.jsonl")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
