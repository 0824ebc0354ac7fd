"""The file of finished runs: one JSON line a run, only ever appended to."""

from __future__ import annotations

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
    is_whole,
    list_of,
    one_of,
    or_none,
    table_of,
)
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.run.identity import deciding

_METRICS = table_of(is_number)
_ALWAYS: Fields = {
    "id": is_text,
    "kind": one_of("run", "pretraining"),
    "dataset": is_text,
    "seed": is_whole,
    "protocol": is_table,
    "max_seconds": or_none(is_finite),
    "status": one_of("done", "failed"),
    "date": is_date,
}
_DONE: Fields = {
    "parameters": is_count,
    "best_epoch": is_count,
    "epochs": is_count,
    "train_seconds": is_finite,
    "time_up": is_flag,
    "valid": _METRICS,
    "history": list_of(is_table),
    "peak_bytes": is_count,
    "gpu_peak_bytes": or_none(is_count),
    "device": is_text,
    "threads": is_count,
    "environment": table_of(is_text),
}
_VALIDATED: Fields = {"epoch": is_count, "seconds": is_finite, "result": _METRICS}
_TESTED: Fields = {"test": _METRICS, "targets": is_text}


class Records:
    """The runs that are done, in a file that a kill leaves readable.

    Args:
        path: ``runs.jsonl``; it need not exist.

    Attributes:
        by_id: identity of a run to its records, oldest first; several where the time limit was changed or a failed
            run was tried again.

    Raises:
        UserError: a line before the last is no record.
    """

    def __init__(self, path: Path) -> None:
        self._file = JsonLines(path, "a run", _check)
        self.by_id: dict[str, list[Record]] = {}
        for record in self._file.records:
            self.by_id.setdefault(record["id"], []).append(record)

    def add(self, record: Record) -> None:
        """Append a record, on the disk before this returns.

        Args:
            record: anything that JSON takes, with its ``id``.
        """
        self._file.append(record)
        self.by_id.setdefault(record["id"], []).append(record)

    def forget(self, record: Record) -> None:
        """Take a run that ended well for one that was not made; failures before it, which it settled, too.

        The file keeps them.

        Args:
            record: what :meth:`done` has said.
        """
        held = self.by_id[record["id"]]
        place = next(at for at, found in enumerate(held) if found is record)
        held[: place + 1] = [found for found in held[:place] if found["status"] != "failed"]

    def done(self, job: Job) -> Record | None:
        """The last record of a run that ended well and would have ended so under the job's time limit, or None."""
        found = [record for record in self.by_id.get(job.id, ()) if _counts(record, job)]
        return found[-1] if found else None

    def failed(self, job: Job) -> Record | None:
        """The last record of a run that failed, or None; one that is also done has not failed."""
        found = [record for record in self.by_id.get(job.id, ()) if record["status"] == "failed"]
        return found[-1] if found and self.done(job) is None else None

    def tried(self, job: Job) -> Record | None:
        """The record that tells how a run ended, well or not, or None."""
        return self.done(job) or self.failed(job)


def readable(record: Record) -> Record:
    """A record that this file will be read with: of a run without a usable result the one of a run that failed."""
    try:
        _check(record)
    except ValueError as error:
        return {**record, "status": "failed", "error": f"it ended without a usable result: it {error}"}
    return record


def _check(record: Record) -> None:
    check_fields(record, _ALWAYS)
    if record["status"] == "failed":
        check_fields(record, {"error": is_text})
        return
    check_fields(record, _DONE)
    for entry in record["history"]:
        check_fields(entry, _VALIDATED)
    if record["kind"] == "run":
        check_fields(record, _TESTED)
        if "beyond" in record:  # runs of before have none
            check_fields(record, {"beyond": _METRICS})
        _check_metrics(record)


def _check_metrics(record: Record) -> None:
    """The metrics that its protocol names are there; the tables take them from there."""
    names, cuts = (record["protocol"].get(key, []) for key in ("metrics", "topk"))
    if not list_of(is_text)(names) or not list_of(is_count)(cuts):
        raise ValueError("has a wrong 'protocol'")
    wanted = {f"{name.lower()}@{cut}": is_number for name in names for cut in cuts}
    for part in (record["test"], record["valid"], *(entry["result"] for entry in record["history"])):
        check_fields(part, wanted)


def _counts(record: Record, job: Job) -> bool:
    """Whether a record is of a job: it ended well, under its limit, and has the metrics of its protocol."""
    same = record["kind"] == job.kind and deciding(record["protocol"]) == deciding(job.protocol)
    return record["status"] == "done" and same and _within(record, job)


def _within(record: Record, job: Job) -> bool:
    """Whether a finished run holds under a job's limit: the same limit, or one that would not have ended it."""
    if record["max_seconds"] == job.max_seconds:
        return True
    return not record["time_up"] and (job.max_seconds is None or record["train_seconds"] <= job.max_seconds)
