"""The trials that have ended: one JSON line each in ``trials.jsonl``, only ever appended to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recbole_mmm4rec.base.json_lines import (
    Fields,
    JsonLines,
    Record,
    check_fields,
    is_count,
    is_date,
    is_finite,
    is_flag,
    is_number,
    is_table,
    is_text,
    list_of,
    one_of,
    table_of,
)
from recbole_mmm4rec.tune.space import Space, same_text

_ALWAYS: Fields = {
    "id": is_text,
    "trial": is_count,
    "params": is_table,
    "status": one_of("done", "stopped", "failed"),
    "seconds": is_finite,
    "error": is_text,
    "date": is_date,
}
_SCORED: Fields = {
    "score": is_finite,
    "bigger": is_flag,
    "valid": table_of(is_number),
    "best_epoch": is_count,
    "epochs": is_count,
    "history": list_of(list_of(is_finite, 2)),
}


class Trials:
    """Ended trials, in a file that a kill leaves readable.

    Args:
        path: the file; it need not exist.
        space: what is searched.

    Attributes:
        path: the file.
        by_id: text of a combination (:func:`~recbole_mmm4rec.tune.space.same_text`) to its last record.

    Raises:
        UserError: a line before the last is no record of a trial of this search.
    """

    def __init__(self, path: Path, space: Space) -> None:
        self.path = path
        self._space = space
        self._file = JsonLines(path, "a trial", self._check)
        self.by_id: dict[str, Record] = {record["id"]: record for record in self._file.records}

    def _check(self, record: Record) -> None:
        check_fields(record, _ALWAYS)
        check_fields(record, {} if record["status"] == "failed" else _SCORED, _SCORED)
        params = record["params"]
        if params.keys() != {one.key for one in self._space} or not all(
            one.has(params[one.key]) for one in self._space
        ):
            raise ValueError("has other 'params' than this search")
        if record["id"] != same_text(params):
            raise ValueError("has an 'id' that its 'params' do not give")

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
