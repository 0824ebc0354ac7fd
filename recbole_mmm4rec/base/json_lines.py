"""Files of one JSON line a result, only ever appended to, which a kill at any moment leaves readable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from recbole_mmm4rec.base.errors import UserError

Record = dict[str, Any]


class JsonLines:
    """The results in a file.

    Args:
        path: the file; it need not exist.
        what: a line stands for, for messages: "a run".

    Attributes:
        records: in the order of the file, each with an ``id``.

    Raises:
        UserError: a line before the last is no record.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.records: list[Record] = []
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]  # what follows the last line end was torn off by a kill
        self._end = len(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                record["id"]
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path}, line {number}: no record of {what}; remove that line") from None
            self.records.append(record)

    def append(self, record: Record) -> None:
        """Add a record, on the disk before this returns.

        Args:
            record: anything that JSON takes, with its ``id``.
        """
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with self.path.open("ab") as file:
            file.truncate(self._end)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._end += len(line)
        self.records.append(record)
