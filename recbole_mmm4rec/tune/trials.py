"""The trials that have ended: one JSON line each in ``trials.jsonl``, only ever appended to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recbole_mmm4rec.base.json_lines import JsonLines, Record


class Trials:
    """Ended trials, in a file that a kill leaves readable.

    Args:
        path: the file; it need not exist.

    Attributes:
        path: the file.
        by_id: text of a combination (:func:`~recbole_mmm4rec.tune.space.same_text`) to its last record.

    Raises:
        UserError: a line before the last is no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = JsonLines(path, "a trial")
        self.by_id: dict[str, Record] = {record["id"]: record for record in self._file.records}

    def add(self, record: Record) -> None:
        """Append a record, on the disk before this returns.

        Args:
            record: plain values, with ``id``, ``trial``, ``params`` and ``status``.
        """
        self._file.append(record)
        self.by_id[record["id"]] = record

    def all(self) -> list[Record]:
        """The last record of every combination, in the order of their trials."""
        return sorted(self.by_id.values(), key=lambda record: int(record["trial"]))

    def failed(self) -> list[Record]:
        """Records of trials that failed."""
        return [record for record in self.all() if record["status"] == "failed"]


def scored(records: Iterable[Record]) -> list[Record]:
    """Those that have a score."""
    return [record for record in records if record["status"] != "failed"]


def best(records: Iterable[Record]) -> Record | None:
    """The record with the best validation, of equal ones the first; None where no trial has one."""
    return min(scored(records), key=loss, default=None)


def loss(record: Record) -> float:
    """The score of a trial, turned so that less is better."""
    return -float(record["score"]) if record["bigger"] else float(record["score"])
