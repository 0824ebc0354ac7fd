"""The file of finished runs: one JSON line a run, only ever appended to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from recbole_mmm4rec.errors import UserError

Record = dict[str, Any]


class Records:
    """The runs that are done, in a file that a kill leaves readable.

    Args:
        path: ``runs.jsonl``; it need not exist.

    Attributes:
        by_id: identity of a run to its last record.

    Raises:
        UserError: a line before the last is no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_id: dict[str, Record] = {}
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]  # what follows the last line end was torn off by a kill
        self._end = len(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self.by_id[record["id"]] = record
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
        self.by_id[record["id"]] = record

    def done(self, identity: str) -> Record | None:
        """The record of a run that ended well, or None."""
        record = self.by_id.get(identity)
        return record if record is not None and record["status"] == "done" else None

    def failed(self, identity: str) -> Record | None:
        """The record of a run that failed, or None."""
        record = self.by_id.get(identity)
        return record if record is not None and record["status"] == "failed" else None
