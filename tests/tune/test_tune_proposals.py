"""Which combination comes next: none twice, and the same after a break."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.tune.proposals import Proposals
from recbole_mmm4rec.tune.space import Parameter, make_parameter, same_text
from recbole_mmm4rec.tune.trials import Trials, best

DATE = "2024-05-06T07:08:09+00:00"
GRID = [make_parameter("a", "choice", [1, 2, 3], "here"), make_parameter("b", "quniform", [0, 1, 0.5], "here")]
RANGES = [
    make_parameter("x", "uniform", [0.0, 1.0], "here"),
    make_parameter("y", "loguniform", [1e-4, 1.0], "here"),
    make_parameter("z", "choice", ["p", "q"], "here"),
]


def goodness(params: dict[str, Any]) -> float:
    """Best at x = 0.7, y = 0.01, z = q; only the last for the grid."""
    if "a" in params:
        return float(params["a"] + params["b"])
    return -((params["x"] - 0.7) ** 2) - (math.log10(params["y"]) + 2) ** 2 / 10 - (params["z"] == "p")


def trial(number: int, params: dict[str, Any]) -> dict[str, Any]:
    """A record; every fifth failed."""
    start = {"id": same_text(params), "trial": number, "params": params, "seconds": 1.5}
    if number % 5 == 0:
        return {**start, "status": "failed", "error": "no", "date": DATE}
    score = goodness(params)
    found = {"status": "done", "error": "", "score": score, "bigger": True, "valid": {"hit@10": score}, "date": DATE}
    return {**start, **found, "best_epoch": 1, "epochs": 2, "history": [[1, score], [2, score - 1]]}


def search(
    file: Path, space: list[Parameter], algo: str, most: int | None, seed: int = 0, ends: int | None = None
) -> list[dict[str, Any]]:
    """Search until the end, or until so many trials have been added; what was tried in this call."""
    trials = Trials(file, space)
    proposals = Proposals(space, algo, seed, most, trials)
    tried: list[dict[str, Any]] = []
    while (ends is None or len(tried) < ends) and (params := proposals.next()) is not None:
        tried.append(params)
        number = len(trials.by_id) + 1
        trials.add(trial(number, params))
    return tried


@pytest.mark.parametrize("algo", ["random", "bayes", "exhaustive"])
def test_a_small_space_is_gone_through_exactly_once(tmp_path: Path, algo: str) -> None:
    tried = search(tmp_path / "t", GRID, algo, 100)
    assert len(tried) == len({same_text(one) for one in tried}) == 9


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_what_draws_do_not_meet_is_found_all_the_same(
    tmp_path: Path, algo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Proposals._draw, "__defaults__", (1,))
    monkeypatch.setattr("recbole_mmm4rec.tune.proposals.REDRAWS", 10)
    whole = search(tmp_path / "whole", GRID, algo, 9)
    assert len({same_text(one) for one in whole}) == 9
    assert search(tmp_path / "parts", GRID, algo, 9, ends=6) + search(tmp_path / "parts", GRID, algo, 9) == whole


@pytest.mark.parametrize(("algo", "space"), [("random", RANGES), ("bayes", RANGES), ("exhaustive", GRID)])
def test_a_broken_off_search_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, algo: str, space: list[Parameter]
) -> None:
    whole = search(tmp_path / "whole", space, algo, 30)
    assert len(whole) == (9 if algo == "exhaustive" else 30)
    first = search(tmp_path / "parts", space, algo, 30, ends=7)
    with (tmp_path / "parts").open("ab") as file:
        file.write(b'{"id": "torn off in the mid')
    assert first + search(tmp_path / "parts", space, algo, 30) == whole
    assert Trials(tmp_path / "parts", space).by_id == Trials(tmp_path / "whole", space).by_id
    assert search(tmp_path / "parts", space, algo, 30) == []


def test_another_seed_draws_others(tmp_path: Path) -> None:
    assert search(tmp_path / "a", RANGES, "random", 3) != search(tmp_path / "b", RANGES, "random", 3, seed=1)


def test_bayes_learns_from_finished_trials(tmp_path: Path) -> None:
    """After 40 random trials its next draws lie nearer to the best than random ones."""
    search(tmp_path / "bayes", RANGES, "random", 40)
    search(tmp_path / "random", RANGES, "random", 40)
    learnt = search(tmp_path / "bayes", RANGES, "bayes", 60)
    blind = search(tmp_path / "random", RANGES, "random", 60)
    assert len(learnt) == len(blind) == 20
    assert np.median([goodness(one) for one in learnt]) > np.median([goodness(one) for one in blind])


def test_the_ends_of_stepped_ranges_are_as_likely_as_the_rest(tmp_path: Path) -> None:
    space = [*RANGES, make_parameter("steps", "quniform", [8, 32, 8], "here")]
    counts = [one["steps"] for one in search(tmp_path / "t", space, "random", 400)]
    assert all(70 <= counts.count(value) <= 130 for value in (8, 16, 24, 32))


def test_exhaustive_refuses_ranges_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="here: x has a uniform range"):
        Proposals(RANGES, "exhaustive", 0, None, Trials(tmp_path / "t", RANGES))


def test_a_line_that_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"id": "1", "trial": 1}\nnonsense\n')
    with pytest.raises(UserError, match="line 2: no record of a trial"):
        Trials(tmp_path / "t", GRID)


def test_of_equal_scores_the_first_is_best_and_less_can_be_better() -> None:
    records = [{"status": "done", "trial": n, "score": s, "bigger": False} for n, s in enumerate([2.0, 1.0, 1.0])]
    assert best(records) == records[1]
    assert best([{**one, "bigger": True} for one in records])["trial"] == 0  # type: ignore[index]
    assert best([{"status": "failed"}]) is None


def test_recboles_exhaustive_search_finds_the_last_combination() -> None:
    """RecBole gives up after 1000 draws of known combinations; here after none, and still nothing may be left out."""
    from recbole.trainer import hyper_tuning

    result = {"model": "m", "valid_score_bigger": True, "best_valid_result": {}, "test_result": {}}
    tried: list[int] = []

    def objective(settings: dict[str, Any], files: Any) -> dict[str, Any]:
        tried.append(settings["a"])
        return {**result, "best_valid_score": float(settings["a"])}

    tuning = hyper_tuning.HyperTuning(objective, params_dict={"choice": {"a": list(range(40))}}, early_stop=1000)
    tuning.algo = partial(hyper_tuning.exhaustive_search, nbMaxSucessiveFailures=0)
    tuning.run()
    assert sorted(tried) == list(range(40))
    assert tuning.best_params == {"a": 39}
