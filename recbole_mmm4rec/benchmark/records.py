"""The file of finished runs: one JSON line a run, only ever appended to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_mmm4rec.errors import UserError

if TYPE_CHECKING:
    from recbole_mmm4rec.benchmark.plan import Job

Record = dict[str, Any]


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
        self.path = path
        self.by_id: dict[str, list[Record]] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]  # what follows the last line end was torn off by a kill
        self._end = len(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self.by_id.setdefault(record["id"], []).append(record)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path}, line {number}: no record of a run; remove that line") from None

    def add(self, record: Record) -> None:
        """Append a record, on the disk before this returns.

        Args:
            record: anything that JSON takes, with its ``id``.
        """
        line = json.dumps(record, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        with self.path.open("ab") as file:
            file.truncate(self._end)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._end += len(line)
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
