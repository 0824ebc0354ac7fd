"""Who is told of a training, what, and in which order; nobody else puts himself around a trainer's methods."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from pattern_shop import prepared
from shop import REPOSITORY, settings, write_shop

from recbole_mmm4rec.run.build import build, make_config
from recbole_mmm4rec.training.observers import ORDER, EndTraining, Observer, Training

pytestmark = pytest.mark.usefixtures("own_folder")
EVENTS = [name for name in vars(Observer) if not name.startswith("_") and name != "place"]


def noting(place: str, told: list[tuple[Any, ...]]) -> Observer:
    """An observer that writes down what it is told."""

    def make(event: str) -> Any:
        def tell(self: Observer, training: Training, *facts: Any) -> Any:
            told.append((place, event, facts[0] if event in ("epoch_begins", "epoch_trained", "epoch_ends") else None))
            return {"saving": facts[-1] if facts else None, "training_begins": False}.get(event)

        return tell

    kind = type("Noting", (Observer,), {"place": place, **{event: make(event) for event in EVENTS}})
    observer: Observer = kind()
    return observer


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_what_happens_in_a_training(tmp_path: Path, model: str) -> None:
    if model == "MMM4Rec":
        run = prepared(tmp_path, epochs=2)
    else:
        write_shop(tmp_path)
        changes = settings(tmp_path, train_neg_sample_args=None, epochs=2)
        run = build(make_config(model, "shop", config_dict=changes), count_flops=False)
    told: list[tuple[Any, ...]] = []
    run.trainer.training.add(noting("watching", told))
    scores = iter([0.1, 0.2])
    run.trainer.evaluate, evaluate = (lambda *_, **__: {run.trainer.valid_metric: next(scores)}), run.trainer.evaluate
    run.trainer.fit(run.train, run.valid)
    one = ["epoch_begins", "epoch_trained", "validated", "saving", "epoch_ends"]
    assert {"stepped"} <= {event for _, event, _ in told}
    named = [event for _, event, _ in told if event != "stepped"]
    assert named == ["training_begins", *one, *one, "training_ends"]
    assert [epoch for _, event, epoch in told if event == "epoch_ends"] == [0, 1]
    told.clear()
    evaluate(run.test, load_best_model=False)
    assert [event for _, event, _ in told] == [*["ranked"] * len(run.test), "evaluated"]


def test_observers_are_told_in_the_order_that_is_written_down(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=1, weight_average=0.5)
    told: list[tuple[Any, ...]] = []
    for place in reversed(ORDER):
        run.trainer.training.add(noting(place, told))
    places = [observer.place for observer in run.trainer.training.observers]
    assert places == sorted(places, key=list(ORDER).index)
    assert {"history", "keeping", "first validation", "unfreezing", "averaging"} <= set(places)
    run.trainer.fit(run.train, run.valid, saved=False)
    assert [place for place, event, _ in told if event == "validated"] == list(ORDER)
    with pytest.raises(ValueError, match="nowhere"):
        run.trainer.training.add(noting("nowhere", told))


def test_an_observer_ends_a_training(tmp_path: Path) -> None:
    class Ending(Observer):
        place = "time limit"

        def epoch_begins(self, training: Training, epoch: int) -> None:
            if epoch == 2:
                raise EndTraining

    run = prepared(tmp_path, epochs=9)
    run.trainer.training.add(Ending())
    score, result = run.trainer.fit(run.train, run.valid)
    assert [entry.epoch for entry in run.trainer.valid_history] == [1, 2]
    assert (score, result) == (run.trainer.best_valid_score, run.trainer.best_valid_result)


def test_one_module_alone_replaces_methods_of_trainers() -> None:
    """Repairs of RecBole's class and this module's are the only places that assign to them."""
    methods = {"fit", "_train_epoch", "_train_at_once", "_valid_epoch", "_save_checkpoint", "resume_checkpoint"}
    places = set()
    for file in sorted((REPOSITORY / "recbole_mmm4rec").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in [part for found in targets for part in ast.walk(found)]:
                if isinstance(target, ast.Attribute) and target.attr in methods:
                    places.add(file.relative_to(REPOSITORY / "recbole_mmm4rec").parts[0])
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr" and "trainer" in ast.dump(node):
                places.add(str(file.relative_to(REPOSITORY / "recbole_mmm4rec")))
    assert places <= {"compat", "training/observers.py", "checkpoints/parts.py"}  # parts set values, not methods
