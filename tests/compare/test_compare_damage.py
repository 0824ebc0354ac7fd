"""The file of runs: whatever a damaged one holds ends in one line, or in tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutate import changed, damaged
from test_compare_records import job
from tiny_comparison import finished

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.base.origins import origins_of
from recbole_mmm4rec.compare.config import read_comparison
from recbole_mmm4rec.compare.records import Records, readable
from recbole_mmm4rec.compare.results import read_ranks
from recbole_mmm4rec.compare.runs import users_file

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


def test_damaged_ranks_of_users_are_told(tmp_path: Path) -> None:
    record = {"id": "a", "max_seconds": None}
    file = users_file(tmp_path, "a", None)
    file.parent.mkdir()
    good = pa.table({"user": ["a", "b"], "rank": pa.array([1, 4], pa.int32())})
    pq.write_table(good, file)
    assert read_ranks(tmp_path, record)["rank"].to_pylist() == [1, 4]
    whole = file.read_bytes()
    damaged_tables = [
        good.drop_columns(["rank"]),
        good.append_column("rank", good["rank"]),
        good.set_column(1, "rank", pa.array([[1], [2]])),
        good.set_column(1, "rank", pa.array([1, None], pa.int32())),
    ]
    contents = [b"", whole[:-3], whole[:20] + b"\xff" * 40 + whole[60:]]
    for table in damaged_tables:
        pq.write_table(table, file)
        contents.append(file.read_bytes())
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.parquet: damaged; remove it, and the same command makes"):
            read_ranks(tmp_path, record)


def test_a_run_of_another_kind_or_protocol_is_none_of_the_jobs(tmp_path: Path) -> None:
    """Whatever its id says: the tables take the metrics of the protocol from it."""
    file = tmp_path / "runs.jsonl"
    good = finished(job(protocol=PROTOCOL))
    for other in ({"protocol": {"metrics": [], "topk": []}, "test": {}}, {"kind": "pretraining", "test": [1]}):
        file.write_text(json.dumps({**good, **other}) + "\n")
        assert Records(file).done(job(protocol=PROTOCOL)) is None
    file.write_text(json.dumps(good) + "\n")
    assert Records(file).done(job(protocol=PROTOCOL)) is not None


@pytest.mark.parametrize("name", ["x" * 1_000, "../x", "/etc", "a\0b", ""])
def test_a_merge_of_sets_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.prep.json").write_text(json.dumps({"source": "merge", "options": {"sets": [name]}}))
    with pytest.raises(UserError, match=r"set\.prep\.json is damaged; prepare the data set again"):
        origins_of(tmp_path, "set")


def test_a_result_that_tables_could_not_use_is_a_failed_run() -> None:
    good = finished(job(protocol=PROTOCOL))
    assert readable(good) == good
    failed = readable({**good, "valid": {}})
    assert failed["status"] == "failed"
    assert failed["error"] == "it ended without a usable result: it has no 'hit@10'"
    assert readable(failed) == failed


def test_a_key_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "compare.yaml"
    file.write_text("datasets: [a]\nmodels: [Pop]\nseeds: [1]\nprotocol: {? !!python/tuple [1, 2] : 3, ? [x] : 4}\n")
    with pytest.raises(UserError, match=r"compare\.yaml"):
        read_comparison(file)
