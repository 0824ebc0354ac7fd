"""The file of finished runs: one JSON line a run, only ever appended to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recbole_mmm4rec.base.json_lines import JsonLines, Record

if TYPE_CHECKING:
    from recbole_mmm4rec.compare.plan import Job


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
        self._file = JsonLines(path, "a run")
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

    def done(self, job: Job) -> Record | None:
        """The last record of a run that ended well and would have ended so under the job's time limit, or None."""
        found = [record for record in self.by_id.get(job.id, ()) if record["status"] == "done" and _within(record, job)]
        return found[-1] if found else None

    def failed(self, job: Job) -> Record | None:
        """The last record of a run that failed, or None; one that is also done has not failed."""
        found = [record for record in self.by_id.get(job.id, ()) if record["status"] == "failed"]
        return found[-1] if found and self.done(job) is None else None

    def tried(self, job: Job) -> Record | None:
        """The record that tells how a run ended, well or not, or None."""
        return self.done(job) or self.failed(job)


def _within(record: Record, job: Job) -> bool:
    """Whether a finished run holds under a job's limit: the same limit, or one that would not have ended it."""
    if record["max_seconds"] == job.max_seconds:
        return True
    return not record["time_up"] and (job.max_seconds is None or record["train_seconds"] <= job.max_seconds)
