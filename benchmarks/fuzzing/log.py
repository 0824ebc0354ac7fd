"""The fuzzer's log: what was done and found, a line each, and the table of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from fuzzing.cases import Reader
from fuzzing.damage import input_of
from tqdm import tqdm

KEPT = 5
"""Inputs that are kept of those that trip a reader at the same place."""


class Log:
    """What was done and found, a line each.

    Attributes:
        done: inputs by reader.
        found: lines of findings.
    """

    def __init__(self, file: Path, seed: int) -> None:
        self.file, self.seed = file, seed
        self.inputs = file.with_suffix("")
        self.counts: dict[str, Counter[str]] = {}
        self.found: list[dict[str, Any]] = []
        for line in file.read_text().splitlines() if file.exists() else ():
            record = json.loads(line)
            if record["seed"] == seed:
                self._take(record)

    def done(self, reader: str) -> int:
        """Inputs that a reader has had."""
        return int(self.counts.get(reader, Counter())["inputs"])

    def _take(self, record: dict[str, Any]) -> None:
        if "kind" in record:
            self.found.append(record)
            return
        counts = self.counts.setdefault(record["reader"], Counter())
        counts.update({key: record.get(key, 0) for key in ("read", "refused", "tripped", "seconds")})
        counts["inputs"] = record["end"]

    def add(self, reader: Reader, record: dict[str, Any]) -> None:
        """Note what a reader's process has told."""
        record = {"reader": reader.name, "seed": self.seed, **record}
        if "kind" in record:
            like = [one for one in self.found if all(one[key] == record[key] for key in ("reader", "kind", "where"))]
            if not like:
                tqdm.write(
                    f"{reader.name} {record['number']}: {record['kind']}: {record['what'][:160]!r} {record['where']}"
                )
            if len(like) < KEPT:
                folder = self.inputs / f"{reader.name.replace(' ', '-').replace('/', '-')}-{record['number']}"
                for name, data in input_of(reader, self.seed, record["number"]).items():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(data)
                record["input"] = str(folder)
        self._take(record)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as opened:
            opened.write(json.dumps(record) + "\n")


def table(readers: list[Reader], log: Log) -> list[str]:
    """A row a reader."""
    rows = [
        "| reader | inputs | read | refused in a line | found | places | processor s |",
        "|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for reader in readers:
        counts = log.counts.get(reader.name, Counter())
        found = [one for one in log.found if one["reader"] == reader.name]
        counts["places"] = len({(one["kind"], one["where"]) for one in found})
        total.update(counts)
        rows.append(_row(reader.name, counts))
    return [*rows, _row("all", total)]


def _row(name: str, counts: Counter[str]) -> str:
    cells = [f"{counts[key]:,}" for key in ("inputs", "read", "refused", "tripped", "places")]
    return "| " + " | ".join([name, *cells, f"{counts['seconds']:,.0f}"]) + " |"
