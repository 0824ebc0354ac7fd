"""What a version of before has written, which had other results: checkpoints and kept loaders are not gone on with."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from breaking import broken_off
from pattern_shop import NAME, prepared

from recbole_mmm4rec.base.signed import read_signed, write_signed
from recbole_mmm4rec.checkpoints.run_id import run_id
from recbole_mmm4rec.settings import results

pytestmark = pytest.mark.usefixtures("own_folder")


TABLE = results.CHANGES
NOW = (
    results.Change(3, "", lambda model, given: True),
    results.Change(4, "", lambda model, given: given["train_unit"] == "user"),
)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was changed later, this is the version."""
    monkeypatch.setattr(results, "CHANGES", NOW)


@contextmanager
def the_version_before() -> Iterator[None]:
    """Windows of `train_unit: user` were others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "CHANGES", NOW[:1])
        yield


def test_a_change_counts_for_those_that_it_concerns(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [results.Change(1, "", lambda *_: True), results.Change(2, "", lambda model, _: model == "Pop")]
    monkeypatch.setattr(results, "CHANGES", (*changes, results.Change(3, "", lambda _, given: given["a"] == 1)))
    assert [results.results_of("Pop", {"a": 0}), results.results_of("BPR", {"a": 0})] == [2, 1]
    assert results.results_of("Pop", {"a": 1}) == 3


def test_a_change_of_ranks_alone_leaves_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = results.Change(2, "", lambda *_: True, trained=False)
    monkeypatch.setattr(results, "CHANGES", (results.Change(1, "", lambda *_: True), ranks))
    assert [results.results_of("Pop", {}), results.results_of("Pop", {}, of_training=True)] == [2, 1]


def test_the_table() -> None:
    assert [change.number for change in TABLE] == list(range(3, len(TABLE) + 3))
    assert TABLE[0].concerns("Pop", {})
    assert TABLE[1].concerns("MMM4Rec", {"train_unit": "user"})
    assert not TABLE[1].concerns("MMM4Rec", {"train_unit": "prefix"})


@pytest.mark.parametrize(("unit", "begins"), [("user", 0), ("prefix", 1)])
def test_a_training_begins_anew_where_its_results_are_others(tmp_path: Path, unit: str, begins: int) -> None:
    changes = {"train_unit": unit, "epochs": 2, "resume": True}
    with the_version_before():
        first = prepared(tmp_path, **changes)
        before = run_id(first.config)
        broken_off(first, 1)
    again = prepared(tmp_path, **changes)
    assert (run_id(again.config) == before) is bool(begins)
    again.trainer.fit(again.train, again.valid, verbose=False)
    assert again.trainer.start_epoch == begins
    broken_off(prepared(tmp_path, seed=3, **changes), 1)
    now = prepared(tmp_path, seed=3, **changes)
    now.trainer.fit(now.train, now.valid, verbose=False)
    assert now.trainer.start_epoch == 1


def batches(folder: Path, **changes: Any) -> list[list[int]]:
    """What a training begins with."""
    given = {"MAX_ITEM_LIST_LENGTH": 4, "dataset_save_path": None, **changes}
    return [batch["item_id"].tolist() for batch in prepared(folder, **given).train]


@pytest.mark.parametrize(("unit", "others"), [("user", True), ("prefix", False)])
@pytest.mark.parametrize("kept", ["save_dataloaders", "save_dataset"])
def test_caches_are_made_anew_where_results_are_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unit: str, others: bool, kept: str
) -> None:
    plain = batches(tmp_path, train_unit=unit)
    with the_version_before():
        batches(tmp_path, train_unit=unit, **{kept: True})
    assert batches(tmp_path, train_unit=unit, **{kept: True}) == plain
    told = "made anew (a version of this package has written it that had other results)"
    assert (told in caplog.text) is others
    caplog.clear()
    assert batches(tmp_path, train_unit=unit) == plain
    assert "made anew" not in caplog.text


def test_loaders_without_a_number_are_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As they were kept before windows began at every (L // 2)th item."""
    plain = batches(tmp_path, train_unit="user", save_dataloaders=True)
    file = tmp_path / "saved" / f"{NAME}-for-MMM4Rec-dataloader.pth"
    content = read_signed(file)
    assert content is not None
    states = pickle.loads(content)["kept"]
    del vars(states[0][0])["_windows"]
    write_signed(file, pickle.dumps(states))
    assert batches(tmp_path, train_unit="user") == plain
    assert "made anew (an older version of this package has written it, or another program)" in caplog.text
