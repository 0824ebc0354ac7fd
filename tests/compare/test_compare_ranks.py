"""Ranks of users come from the evaluation that RecBole reports; the time limit; one run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pattern_shop import NAME, prepared, write_pattern_shop
from tiny_comparison import OURS, SASREC, tiny_plan

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.compare import worker
from recbole_mmm4rec.training.user_ranks import user_metric

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def order(tmp_path: Path) -> Any:
    """Makes the job of a model as a worker gets it."""
    write_pattern_shop(tmp_path)

    def make(model: str, **settings: Any) -> dict[str, Any]:
        plan = tiny_plan(tmp_path, models=[{"model": model, "settings": settings}], seeds=[1])
        row, dataset = next(iter(plan.cells()))
        places = {"data_path": str(tmp_path), "threads": 1, "users_file": str(tmp_path / "users.parquet")}
        places["unfinished"] = str(tmp_path / "unfinished" / model)
        return {**vars(plan.run(row, dataset, 1, {})), **places, "pretrained_file": None}

    return make


@pytest.mark.parametrize(
    ("model", "settings"),
    [("Pop", {}), ("SASRec", SASREC), ("MMM4Rec", {**OURS, "epochs": 2}), ("BPR", {"epochs": 1, "embedding_size": 8})],
)
def test_means_over_users_are_what_is_reported(
    order: Any, tmp_path: Path, model: str, settings: dict[str, Any]
) -> None:
    result = worker.run(order(model, **settings))
    users = pq.read_table(tmp_path / "users.parquet")
    assert users["user"].to_pylist() == sorted(f"u{number}" for number in range(40))
    ranks = users["rank"].to_numpy()
    assert len(set(ranks)) > 3
    assert set(result["test"]) == {f"{name}@{k}" for name in ("hit", "ndcg", "mrr") for k in (1, 10)}
    for metric, reported in result["test"].items():
        assert user_metric(ranks, metric).mean() == pytest.approx(reported, abs=1e-9)


def test_all_models_are_tested_on_the_same_targets(order: Any) -> None:
    results = [worker.run(order(model, **settings)) for model, settings in (("Pop", {}), ("SASRec", SASREC))]
    assert results[0]["targets"] == results[1]["targets"]


def test_a_rank_is_the_targets_own(order: Any, tmp_path: Path) -> None:
    """Popularity is known: so is every rank."""
    worker.run(order("Pop"))
    found = dict(zip(*pq.read_table(tmp_path / "users.parquet").to_pydict().values(), strict=True))
    rows = [line.split("\t") for line in (tmp_path / NAME / f"{NAME}.inter").read_text().splitlines()[1:]]
    histories: dict[str, list[str]] = {}
    for user, item, _ in rows:  # written in the order of time
        histories.setdefault(user, []).append(item)
    counts: dict[str, int] = {}
    for items in histories.values():
        for item in items[:-2]:
            counts[item] = counts.get(item, 0) + 1
    for user, items in histories.items():
        mine = counts.get(items[-1], 0)
        ahead = sum(count > mine for count in counts.values())
        level = sum(count == mine for count in counts.values())
        if found[user]:
            assert ahead < found[user] <= ahead + level
        else:
            assert ahead + level >= 10


@pytest.mark.parametrize(
    ("metric", "values"),
    [("hit@2", [0, 1, 1, 0]), ("ndcg@2", [0, 1, 1 / np.log2(3), 0]), ("mrr@3", [0, 1, 1 / 2, 1 / 3])],
)
def test_metrics_of_a_rank_by_hand(metric: str, values: list[float]) -> None:
    assert user_metric([0, 1, 2, 3], metric) == pytest.approx(values)


def limited(run: Any, seconds: float | None) -> tuple[bool, int]:
    """Whether time was up, and the epochs that were trained."""
    clock = worker.Clock(seconds)
    run.trainer.training.add(clock)
    run.trainer.fit(run.train, run.valid)
    return clock.time_up, run.trainer.training.epoch


def test_the_time_limit_ends_a_training_after_an_epoch(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=5)
    assert limited(run, 1e-6) == (True, 1)
    assert [entry.epoch for entry in run.trainer.valid_history] == [1]
    assert run.trainer.evaluate(run.test)["hit@10"] > 0  # the best model was kept


def test_the_time_limit_waits_for_the_first_validation(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=5, eval_step=2)
    assert limited(run, 1e-6) == (True, 2)
    assert run.trainer.evaluate(run.test)["hit@10"] > 0


def test_a_training_tells_whether_its_last_allowed_epoch_ended_it(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=2, stopping_step=5)
    assert limited(run, None) == (False, 2)
    assert worker._epochs_up(run)
    run.trainer.cur_step = 6  # early stopping came at the same epoch
    assert not worker._epochs_up(run)


def test_without_a_limit_nothing_ends_early(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=2)
    assert limited(run, None) == (False, 2)
    assert run.trainer.training.seconds == run.trainer.valid_history[-1].seconds > 0


def test_another_data_set_than_the_comparisons_is_refused(order: Any) -> None:
    job = {**order("Pop"), "expected": {"users": 41, "items": 30}}
    with pytest.raises(UserError, match="this model sees 40 users, the comparison 41"):
        worker.run(job)
