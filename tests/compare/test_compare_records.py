"""The file of finished runs: torn lines, broken ones, and which record counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_comparison import finished

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare.job import Job
from recbole_mmm4rec.compare.records import Records


def job(**changes: Any) -> Job:
    """A job that nobody runs."""
    parts = {"label": "x", "kind": "run", "dataset": "d", "model": "Pop", "settings": {}, "seed": 1}
    return Job(**{**parts, "max_seconds": None, "protocol": {}, "fingerprint": "f", "resolved": "r", **changes})


def test_records_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    first, second = job(seed=1), job(seed=2)
    records = Records(file)
    records.add(finished(first, note="é"))
    records.add({**finished(second), "status": "failed", "error": "no"})
    again = Records(file)
    assert again.by_id == records.by_id
    assert (again.done(first) or {})["note"] == "é"
    assert again.done(second) is None
    assert (again.failed(second) or {})["error"] == "no"
    assert again.failed(first) is None
    again.add(finished(second))
    assert Records(file).failed(second) is None


@pytest.mark.parametrize("torn", [b'{"id": "ab', b"\xc3", b'{"id": "x", "status": "done"}'])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "runs.jsonl"
    Records(file).add(finished(job()))
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    records = Records(file)
    assert list(records.by_id) == [job().id]
    records.add(finished(job(seed=2)))
    lines = file.read_bytes().splitlines()
    assert lines[0] == whole.strip()
    assert [json.loads(line)["id"] for line in lines] == [job().id, job(seed=2).id]


def test_a_broken_line_in_the_middle_is_told(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"id": "a", "status": "done"}\nnonsense\n{"id": "b", "status": "done"}\n')
    with pytest.raises(UserError, match=r"runs\.jsonl, line 2: no record of a run"):
        Records(file)


@pytest.mark.parametrize(
    ("was", "asked", "counts"),
    [
        ({"max_seconds": 60, "time_up": True}, 60, True),
        ({"max_seconds": 60, "time_up": True}, 90, False),
        ({"max_seconds": 60, "time_up": True}, None, False),
        ({"max_seconds": 60, "time_up": False}, 90, True),
        ({"max_seconds": 60, "time_up": False}, None, True),
        ({"max_seconds": None, "time_up": False}, 6, True),
        ({"max_seconds": None, "time_up": False}, 4, False),
    ],
)
def test_a_run_counts_under_limits_that_would_not_have_ended_it(
    tmp_path: Path, was: dict[str, Any], asked: float | None, counts: bool
) -> None:
    records = Records(tmp_path / "runs.jsonl")
    records.add(finished(job(), **was))  # after 5 seconds of training
    assert (records.done(job(max_seconds=asked)) is not None) == counts


def test_what_makes_a_run_another() -> None:
    same = job(label="another name", max_seconds=3)
    assert same.id == job().id
    others = [
        job(seed=2),
        job(settings={"a": 1}),
        job(protocol={"topk": [1]}),
        job(fingerprint="g"),
        job(resolved="s"),
        job(model="BPR"),
    ]
    others += [job(dataset="e"), job(pretrained="p"), job(kind="pretraining"), job(kind="pretraining", max_seconds=3)]
    assert len({job().id, *(other.id for other in others)}) == 1 + len(others)
