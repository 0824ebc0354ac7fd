"""The file of runs: whatever a damaged one holds ends in one line, or in tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mutate import changed, damaged
from test_compare_records import job
from tiny_comparison import finished

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.records import Records

PROTOCOL = {"metrics": ["Hit"], "topk": [10]}


def read(file: Path) -> None:
    """What tables, plots and the page take from a record without asking."""
    records = Records(file)
    for of_one in records.by_id.values():
        for record in of_one:
            if record["status"] == "failed":
                record["error"].encode()
            else:
                sum(entry["result"]["hit@10"] for entry in record["history"] if record["kind"] == "run")
                max(record["peak_bytes"], record["gpu_peak_bytes"] or 0) / 2**20
                record["train_seconds"] / max(1, record["epochs"])
    records.done(job(protocol=PROTOCOL, max_seconds=3))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"test": {"hit@5": 0.5}}, "has no 'hit@10'"),
        ({"history": [{"epoch": 1, "seconds": 1.0, "result": {"hit@10": "high"}}]}, "has a wrong 'result'"),
        ({"train_seconds": "5"}, "has a wrong 'train_seconds'"),
        ({"date": "yesterday"}, "has a wrong 'date'"),
        ({"protocol": {"metrics": "Hit", "topk": [10]}}, "has a wrong 'protocol'"),
        ({"kind": "walk"}, "has a wrong 'kind'"),
    ],
)
def test_what_is_no_run_is_told(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps({**finished(job(protocol=PROTOCOL)), **changes}) + "\n")
    with pytest.raises(UserError, match=f"line 1: no record of a run: it {why}"):
        Records(file)


def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    run = finished(job(protocol=PROTOCOL))
    line = (json.dumps(run) + "\n").encode()
    file.write_bytes(line)
    read(file)
    contents = [text.encode("utf-8", "surrogatepass") + b"\n" for text in changed(run, 6, 250)]
    refused: list[str] = []
    for content in [*contents, *damaged(line + line, 7, 200)]:
        file.write_bytes(line + content)
        try:
            read(file)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert not any("\n" in line for line in refused)
