"""Ranking over pieces of the catalogue: RecBole's metrics to the last digit, without users × items scores."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from pattern_shop import ITEMS, prepared
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator
from recbole.trainer import Trainer
from torch import Tensor
from watching import Watch

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.scoring import recommend
from recbole_mmm4rec.scoring.ranking import RankingCollector, TopItems
from recbole_mmm4rec.scoring.recommend import best_items, best_of

pytestmark = pytest.mark.usefixtures("own_folder")

TOP = ["Hit", "NDCG", "MRR", "Recall", "Precision", "MAP"]
COVERAGE = ["ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage"]


def sorted_all(scores: Tensor, count: int) -> Tensor:
    """The order that is promised, by sorting everything."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]


@pytest.mark.parametrize("count", [1, 3, 19, 20])
@pytest.mark.parametrize("values", [1, 2, 5, 1000])
def test_equal_scores_are_ordered_by_item_number(values: int, count: int) -> None:
    draw = torch.Generator().manual_seed(values)
    scores = torch.randint(values, (40, 20), generator=draw).float()
    scores[torch.rand(40, 20, generator=draw) < 0.2] = -torch.inf
    found, columns = best_of(scores, count)
    assert torch.equal(columns, sorted_all(scores, count))
    assert torch.equal(found, scores.gather(1, columns))


@pytest.mark.parametrize("budget", [1, 7 * 4 * 6, 10**6])
@pytest.mark.parametrize("count", [1, 5, 22])
@pytest.mark.parametrize("masked", [False, True])
def test_pieces_give_the_order_of_the_whole(budget: int, count: int, masked: bool) -> None:
    """Whole numbers are scored exactly and tie often, within pieces and across them."""
    draw = torch.Generator().manual_seed(count)
    users = torch.randint(-2, 3, (7, 4), generator=draw).float()
    fused = torch.randint(-1, 2, (24, 4), generator=draw).float()
    history = (torch.tensor([0, 0, 3, 6, 6]), torch.tensor([23, 1, 12, 5, 6])) if masked else None
    scores = users @ fused.T
    scores[:, 0] = -torch.inf
    if history is not None:
        scores[history] = -torch.inf
    found = best_items(users, fused, count, history=history, budget=budget)[1]
    assert torch.equal(found, sorted_all(scores, count))


def test_no_scores_of_all_items_are_made() -> None:
    users, fused = torch.randn(8, 4), torch.randn(1_000, 4)
    with Watch() as watch:
        best_items(users, fused, 5, budget=8 * 50 * 4)
    assert watch.largest() <= 8 * 50


def stock_result(run: Run) -> dict[str, float]:
    """What RecBole's own trainer and collector say of the same model."""
    trainer = run.trainer
    collector, trainer.eval_collector = trainer.eval_collector, Collector(run.config)
    trainer.eval_collector.data_collect(run.train)
    patch = pytest.MonkeyPatch()
    with patch.context() as changed:
        changed.setattr(type(trainer), "_full_sort_batch_eval", Trainer._full_sort_batch_eval)
        result = trainer.evaluate(run.test, load_best_model=False)
    trainer.eval_collector = collector
    return dict(result)


@pytest.mark.parametrize("topk", [[1], [3, 10], [29]])
@pytest.mark.parametrize("metrics", [TOP, COVERAGE, [*TOP, *COVERAGE], [*TOP, "GAUC"], ["GAUC"]], ids=" ".join)
def test_metrics_equal_recbole_s_to_the_last_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topk: list[int], metrics: list[str]
) -> None:
    first = metrics[0] if metrics == ["GAUC"] else f"{metrics[0]}@{topk[0]}"
    changes = {"metrics": metrics, "topk": topk, "valid_metric": first, "eval_batch_size": 16}
    run = prepared(tmp_path, metric_decimal_place=12, **changes)
    monkeypatch.setattr(recommend, "SCORE_BYTES", 16 * 4 * 4)  # four items at a time, or as many as are wanted
    with torch.no_grad():
        for value in run.model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    run.trainer.eval_collector.data_collect(run.train)
    found = dict(run.trainer.evaluate(run.test, load_best_model=False))
    wanted = stock_result(run)
    assert found.keys() == wanted.keys()
    assert found == wanted
    assert found == dict(run.trainer.evaluate(run.test, load_best_model=False))  # nothing is left from before


def test_a_batch_holds_the_best_items_alone(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    run.model.eval()
    run.trainer.tot_item_num = len(ITEMS) + 1
    batch = next(iter(run.test))
    with torch.no_grad():
        _, top, _, _ = run.trainer._full_sort_batch_eval(batch)
        scores = run.model.full_sort_predict(batch[0])
    assert isinstance(top, TopItems)
    assert torch.equal(top.items, sorted_all(scores, 10))


def test_a_metric_of_all_scores_says_what_it_costs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = prepared(tmp_path, metrics=["Hit", "GAUC"], eval_batch_size=16)
    with caplog.at_level(logging.INFO):
        run.trainer.evaluate(run.test, load_best_model=False)
    assert [record.message for record in caplog.records if "eval_batch_size" in record.message] == [
        "a metric needs the scores of all items (GAUC): evaluation holds users × items numbers, "
        "lower eval_batch_size if they do not fit"
    ]


def test_several_positives_and_masked_histories(tmp_path: Path) -> None:
    """As RecBole's loaders of general models give them; a positive named twice counts once."""
    config = prepared(tmp_path, metrics=[*TOP, "ItemCoverage"], topk=[2, 6], valid_metric="Hit@2").config
    draw = torch.Generator().manual_seed(5)
    users, fused = torch.randn(9, 4, generator=draw), torch.randn(21, 4, generator=draw)
    positive_u = torch.arange(9).repeat_interleave(3)
    positive_i = torch.randint(1, 21, (27,), generator=draw)
    positive_i[1] = positive_i[0]
    history = torch.randint(9, (30,), generator=draw), torch.randint(1, 21, (30,), generator=draw)
    scores = users @ fused.T
    scores[:, 0] = -torch.inf
    scores[history] = -torch.inf
    results = []
    for collector, given in (
        (Collector(config), scores),
        (RankingCollector(config), scores),
        (RankingCollector(config), TopItems(best_items(users, fused, 6, history=history, budget=200)[1], 21)),
    ):
        collector.data_struct.set("data.num_items", 21)
        collector.eval_batch_collect(given, Interaction({"user_id": torch.arange(9)}), positive_u, positive_i)
        results.append(Evaluator(config).evaluate(collector.get_data_struct()))
    assert results[0] == results[1] == results[2]
