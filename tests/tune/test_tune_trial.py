"""One trial: what it finds, that it never sees the test set, and that it survives what goes wrong."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pattern_shop import NAME, pattern_settings, write_pattern_shop

from recbole_mmm4rec.run.quick_start import run_recbole
from recbole_mmm4rec.tune import trial
from recbole_mmm4rec.tune.worker import Worker

pytestmark = pytest.mark.usefixtures("own_folder", "forked")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    write_pattern_shop(tmp_path)
    return {**pattern_settings(tmp_path, epochs=3, state="ERROR"), "model": "MMM4Rec", "dataset": NAME}


def test_a_trial_finds_what_a_run_finds_and_tells_every_epoch(settings: dict[str, Any]) -> None:
    told: list[tuple[int, float, dict[str, float]]] = []
    found = trial.attempt(settings, lambda *entry: told.append(entry))
    run = run_recbole("MMM4Rec", NAME, config_dict=dict(settings))
    assert found["status"] == "done"
    assert found["valid"] == run["best_valid_result"]
    assert (found["score"], found["best_epoch"]) == (run["best_valid_score"], run["best_epoch"])
    assert found["bigger"] is True
    assert [entry[0] for entry in told] == [1, 2, 3]
    assert found["history"] == [[epoch, score] for epoch, score, _ in told]
    assert told[-1][2]["hit@10"] == told[-1][1]


def test_no_trial_sees_the_test_set(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is evaluated is the validation set, and going through the test set's loader would raise."""
    from recbole_mmm4rec.run import build
    from recbole_mmm4rec.training.trainer import MMM4RecTrainer

    made: list[Any] = []
    evaluated: list[Any] = []
    whole, evaluate = build.build, MMM4RecTrainer.evaluate

    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the test set was asked for {name}")

    def without_test(*args: Any, **kwargs: Any) -> Any:
        made.append(whole(*args, **kwargs))
        made[-1].test = Untouchable()
        return made[-1]

    def noted(self: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        evaluated.append(data)
        return evaluate(self, data, *args, **kwargs)

    monkeypatch.setattr(build, "build", without_test)
    monkeypatch.setattr(MMM4RecTrainer, "evaluate", noted)
    found = trial.attempt(settings)
    assert found["status"] == "done", found
    assert len(evaluated) == 3
    assert all(data is made[0].valid for data in evaluated)
    assert not any("test" in key for key in found)


def test_what_fails_is_told(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = trial.attempt({**settings, "head_dim": 7})
    assert found["status"] == "failed"
    assert "head_dim" in found["error"]

    from recbole_mmm4rec.model import MMM4Rec

    def no_number(self: Any, interaction: Any) -> Any:
        return sum(weight.sum() for weight in self.parameters()) * float("nan")

    monkeypatch.setattr(MMM4Rec, "calculate_loss", no_number)
    assert "nan" in trial.attempt(settings)["error"]

    def no_memory(self: Any, interaction: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(MMM4Rec, "calculate_loss", no_memory)
    assert trial.attempt(settings)["error"] == "MemoryError"


def test_a_metric_that_is_no_number_is_a_failure(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_mmm4rec.training.trainer import MMM4RecTrainer

    monkeypatch.setattr(MMM4RecTrainer, "_valid_epoch", lambda *_, **__: (float("nan"), {"hit@10": float("nan")}))
    assert trial.attempt(settings)["error"].startswith("FloatingPointError: ")


def test_a_killed_process_costs_one_trial(settings: dict[str, Any], tmp_path: Path) -> None:
    worker = Worker(tmp_path / "logs")
    log = tmp_path / "logs/endless.log"

    def kill() -> None:
        while not log.exists():
            time.sleep(0.05)
        os.kill(worker._process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = worker.run("endless", {**settings, "epochs": 1_000_000, "stopping_step": 1_000_000})
        killer.join()
        assert found["status"] == "failed"
        assert found["error"] == "the process ended with signal SIGKILL (out of memory?)"
        assert found["seconds"] > 0  # a record without is none, and the search could not be gone on with
        assert worker.run("next", {**settings, "epochs": 1})["status"] == "done"
    finally:
        worker.close()
