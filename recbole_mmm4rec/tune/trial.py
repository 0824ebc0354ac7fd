"""One trial: train, validate after each epoch, never look at the test set."""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.settings.homes import MODELS
from recbole_mmm4rec.training.observers import Observer, Training
from recbole_mmm4rec.tune.study import settings_file

Told = Callable[[int, float, dict[str, float]], None]
"""Called after each validation with epochs, score and metrics."""


def attempt(settings: Mapping[str, Any], told: Told | None = None) -> dict[str, Any]:
    """Train with given settings, whatever comes of it.

    Args:
        settings: ``model``, ``dataset`` and all settings that are not defaults.
        told: see :data:`Told`.

    Returns:
        ``status`` (``done`` or ``failed``), ``error``, ``seconds``, and of a finished training also ``score``,
        ``bigger``, ``valid`` (metric to value), ``best_epoch``, ``epochs`` and ``history`` (pairs of epoch and score).
    """
    start = perf_counter()
    try:
        found = train(settings, told)
    except Exception as error:  # whatever a model does, the search goes on
        traceback.print_exc()
        text = " ".join(str(error).split())
        name = type(error).__name__
        told_error = text if isinstance(error, UserError) else f"{name}: {text}" if text else name
        found = {"status": "failed", "error": told_error}
    finally:
        _free()
    return {**found, "seconds": round(perf_counter() - start, 3)}


def train(settings: Mapping[str, Any], told: Told | None = None) -> dict[str, Any]:
    """Train with given settings; arguments and result of :func:`attempt`, but raises what the training raises.

    Raises:
        UserError: for settings that do not fit together.
        FloatingPointError: the validation metric is not a number.
    """
    from recbole_mmm4rec.run.build import build, make_config
    from recbole_mmm4rec.training.history import best_epoch

    with settings_file(settings) as file:
        config = make_config(settings["model"], settings["dataset"], [file], {"show_progress": False})
        run = build(config, count_flops=False)
        reports = Reports(told)
        run.trainer.training.add(reports)
        score, valid = run.trainer.fit(run.train, run.valid, verbose=False, saved=False, show_progress=False)
    if not math.isfinite(score):
        raise FloatingPointError(f"{config['valid_metric']} of the validation is {score}")
    return {
        "status": "done",
        "error": "",
        "score": float(score),
        "bigger": bool(config["valid_metric_bigger"]),
        "valid": _floats(valid),
        "best_epoch": best_epoch(run.trainer),
        "epochs": max((epoch for epoch, _ in reports.history), default=0),
        "history": reports.history,
    }


class Reports(Observer):
    """Says what each validation finds.

    Args:
        told: see :data:`Told`.

    Attributes:
        history: of (epochs, score).
    """

    place = "reports"

    def __init__(self, told: Told | None) -> None:
        self.told = told
        self.history: list[list[float]] = []

    def validated(self, training: Training, score: float, result: dict[str, Any]) -> None:
        """Tell it.

        Raises:
            FloatingPointError: the score is no number.
        """
        if not math.isfinite(score):
            raise FloatingPointError(f"{training.trainer.valid_metric} of the validation is {score}")
        self.history.append([training.epoch, float(score)])
        if self.told is not None:
            self.told(training.epoch, float(score), _floats(result))


def _floats(result: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (result or {}).items()}


def _free() -> None:
    """Give back what the trial held, on the GPU as well: the next one needs it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def retrain_and_test(settings: Mapping[str, Any], checkpoint_dir: str) -> dict[str, Any]:
    """Train once more with the settings that were chosen, keep the model, and evaluate it on the test set.

    Args:
        settings: of the chosen trial.
        checkpoint_dir: where the model goes.

    Returns:
        ``valid``, ``test`` (metric to value) and ``model_file``.
    """
    from recbole_mmm4rec.run.quick_start import run_recbole

    changes = {"show_progress": False, "checkpoint_dir": checkpoint_dir}
    if settings["model"] in MODELS:
        changes["model_folder"] = False
    with settings_file({**settings, **changes}) as file:
        result = run_recbole(settings["model"], settings["dataset"], [file])
    return {
        "valid": _floats(result["best_valid_result"]),
        "test": _floats(result["test_result"]),
        "model_file": result["saved_model_file"],
    }
