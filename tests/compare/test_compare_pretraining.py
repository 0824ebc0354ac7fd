"""Rows that start from a pre-training: what is made again, what is said of it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pattern_shop import NAME, write_pattern_shop
from test_compare_plan import renamed
from test_compare_seeds import Noting, note
from test_compare_tables import SHOP, cell
from tiny_comparison import OURS, finished, tiny_plan

from recbole_mmm4rec.compare.config import Pretraining
from recbole_mmm4rec.compare.notes import notes
from recbole_mmm4rec.compare.plan import Plan
from recbole_mmm4rec.compare.plots import convergence
from recbole_mmm4rec.compare.records import Records
from recbole_mmm4rec.compare.results import Table, collect
from recbole_mmm4rec.compare.write import results_csv

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two rows, two seeds and two data sets from one pre-training."""
    write_pattern_shop(tmp_path)
    renamed(tmp_path, "source")
    rows = [
        {"name": name, "model": "MMM4Rec", "settings": OURS, "pretrained": {"dataset": "source", "settings": OURS}}
        for name in ("A", "B")
    ]
    datasets = [NAME, {"name": "once more", "folder": NAME, "settings": {"MAX_ITEM_LIST_LENGTH": 6}}]
    return tiny_plan(tmp_path, models=rows, datasets=datasets)


def test_one_that_is_gone_and_fails_when_it_is_made_again_has_failed(plan: Plan, tmp_path: Path) -> None:
    out, records = tmp_path / "out", Records(tmp_path / "runs.jsonl")
    out.mkdir()
    (first,) = plan.waiting(records)
    records.add(finished(first))
    row, dataset = next(iter(plan.cells()))
    note(records, out, plan.run(row, dataset, 1, {}), [1, 0])
    records.add({**finished(first), "status": "failed", "error": "no room on the disk"})
    runner = Noting(plan, records, out, 1, False)
    runner.run()
    assert runner.started == []  # it failed in an earlier call: not again without --retry-failed
    table, _ = collect(plan, records, out)
    assert any("no room on the disk" in error for found in table.cells for error in found.errors)


def test_it_stands_once_among_the_results(plan: Plan, tmp_path: Path) -> None:
    records = Records(tmp_path / "runs.jsonl")
    (first,) = plan.waiting(records)
    records.add(finished(first))
    for job in plan.waiting(records):
        records.add(finished(job))
    lines = list(csv.DictReader(io.StringIO(results_csv(plan, records))))
    assert [line["role"] for line in lines].count("pretraining") == 1


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ({"time_up": True}, ", ended by the limit of 60 s."),
        ({"epochs_up": True}, ", the last of its `epochs`."),
        ({}, "seed 1."),
    ],
)
def test_what_ended_it_is_told(ended: dict[str, Any], told: str) -> None:
    record = {"dataset": "source", "epochs": 2, "train_seconds": 9.0, "seed": 1, "max_seconds": 60.0, "time_up": False}
    row = replace(cell("A", [0.1], [0.1]).row, pretrained=Pretraining("source", {}, 1, 60.0))
    found = replace(cell("A", [0.1], [0.1]), row=row, pretraining={**record, **ended})
    (line,) = [line for line in notes(Table(SHOP, (found,), ())) if "pre-trained" in line]
    assert line.endswith(told)


def test_a_row_whose_pre_training_is_gone_is_not_from_scratch() -> None:
    first = Pretraining("source", {}, 1, None)
    history = [{"epoch": 1, "seconds": 1.0, "result": {"hit@10": 0.5}}]
    a, b = (cell(name, [0.1], [0.1], history=history) for name in "AB")
    a, b = (replace(one, row=replace(one.row, pretrained=first)) for one in (a, b))
    a = replace(a, pretraining={"dataset": "source", "epochs": 2, "train_seconds": 9.0, "seed": 1, "time_up": False})
    said = notes(Table(SHOP, (a, b), ()))
    assert any("A: pre-trained on source, 2 epochs" in line for line in said)
    assert "B: pre-trained on source, by a training of which nothing is left." in said
    assert not any("as good on validation as" in line for line in said)


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ["a $_$ b", "for $5, for $6", "_hidden"]
    history = [{"epoch": 1, "seconds": 1.0, "result": {"hit@10": 0.5}}]
    drawn = convergence(Table(SHOP, tuple(cell(name, [0.1], [0.1], history=history) for name in names), ()), tmp_path)
    text = drawn["svg"].decode()
    assert [name for name in names if f" {name} (1 of 2 seeds) -->" not in text] == []
