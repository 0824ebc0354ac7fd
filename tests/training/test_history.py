"""What validations found, kept for any trainer, and the validation before training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pattern_shop import NAME, pattern_settings, prepared, write_pattern_shop
from shop import settings, write_shop

from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.run import quick_start
from recbole_mmm4rec.training.history import Validation, best_epoch

pytestmark = pytest.mark.usefixtures("own_folder")


def falling(run: Any, scores: list[float]) -> None:
    """Let the trainer's evaluations give these scores."""
    waiting = iter(scores)
    run.trainer.evaluate = lambda *_, **__: {"hit@10": next(waiting)}


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.1, 0.3, 0.2], 2), ([0.3, 0.3, 0.2], 2), ([0.3, 0.2, 0.1], 1), ([0.1, 0.2, 0.3], 3)],
)
def test_every_epoch_is_kept(tmp_path: Path, scores: list[float], best: int) -> None:
    run = prepared(tmp_path, epochs=3)
    falling(run, scores)
    run.trainer.fit(run.train, run.valid, saved=False)
    history: list[Validation] = run.trainer.valid_history
    assert [entry.epoch for entry in history] == [1, 2, 3]
    assert [entry.result["hit@10"] for entry in history] == scores
    assert [entry.loss for entry in history] == list(run.trainer.train_loss_dict.values())
    assert sum(entry.train_seconds for entry in history) == pytest.approx(history[-1].seconds)
    assert all(entry.train_seconds > 0 for entry in history)
    assert best_epoch(run.trainer) == best


def test_epochs_between_validations_count(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=5, eval_step=2)
    run.trainer.fit(run.train, run.valid, saved=False)
    assert [entry.epoch for entry in run.trainer.valid_history] == [2, 4]
    run = prepared(tmp_path, epochs=2)
    run.trainer.fit(run.train, None, saved=False)
    assert (run.trainer.valid_history, best_epoch(run.trainer)) == ([], 2)


@pytest.mark.parametrize(("scores", "best"), [([0.5, 0.4, 0.3], 0), ([0.3, 0.4, 0.2], 1)])
def test_the_model_before_training_is_a_candidate(
    tmp_path: Path, scores: list[float], best: int, caplog: pytest.LogCaptureFixture
) -> None:
    run = prepared(tmp_path, epochs=2, evaluate_first=True)
    initial = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    falling(run, scores)
    with caplog.at_level(logging.INFO):
        score, result = run.trainer.fit(run.train, run.valid)
    assert (score, result) == (max(scores), {"hit@10": max(scores)})
    assert [entry.epoch for entry in run.trainer.valid_history] == [0, 1, 2]
    assert run.trainer.valid_history[0].loss is None
    assert best_epoch(run.trainer) == best
    assert "before the first epoch" in caplog.text
    kept = read(run.trainer.saved_model_file)
    same = all((kept["state_dict"][name] == weight).all() for name, weight in initial.items())
    assert same == (best == 0)


@pytest.mark.parametrize("evaluate_first", ["auto", False])
def test_no_epochs(tmp_path: Path, evaluate_first: Any) -> None:
    """Without training there is something to report all the same, unless it is not wanted."""
    write_pattern_shop(tmp_path)
    changes = pattern_settings(tmp_path, epochs=0, evaluate_first=evaluate_first)
    result = quick_start.run_recbole("MMM4Rec", NAME, config_dict=changes)
    assert set(result["test_result"]) == {"hit@1", "hit@10", "ndcg@1", "ndcg@10", "mrr@1", "mrr@10"}
    wanted = evaluate_first == "auto"
    assert [entry.epoch for entry in result["valid_history"]] == ([0] if wanted else [])
    assert (result["best_valid_result"] is not None) == wanted
    assert result["best_epoch"] == 0
    assert Path(result["saved_model_file"]).is_file()


@pytest.mark.parametrize("model", ["Pop", "BPR", "GRU4Rec", "RecVAE"])
def test_other_models(tmp_path: Path, model: str) -> None:
    write_shop(tmp_path)
    changes = settings(tmp_path, epochs=2, evaluate_first=model != "Pop")
    result = quick_start.run_recbole(model, "shop", config_dict=changes, saved=model != "Pop")
    epochs = [entry.epoch for entry in result["valid_history"]]
    assert epochs == ([1] if model == "Pop" else [0, 1, 2])
    best = [entry for entry in result["valid_history"] if entry.epoch == result["best_epoch"]]
    assert [entry.result for entry in best] == [dict(result["best_valid_result"])]
