"""The file of trials: whatever a damaged one holds ends in one line, or in a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mutate import changed, damaged

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.tune.report import read_test, report, trials_csv
from recbole_mmm4rec.tune.space import make_parameter, same_text
from recbole_mmm4rec.tune.study import Study
from recbole_mmm4rec.tune.trials import Trials, best

SPACE = [make_parameter("a", "choice", [1, "x"], "here"), make_parameter("b", "loguniform", [1e-4, 1.0], "here")]
STUDY = Study("Pop", "shop", {}, SPACE, "", "", "hit@10", True, 4, 3)
PARAMS = {"a": "x", "b": 0.5}
TRIAL: dict[str, Any] = {
    "id": same_text(PARAMS),
    "trial": 1,
    "params": PARAMS,
    "status": "done",
    "error": "",
    "score": 0.5,
    "bigger": True,
    "valid": {"hit@10": 0.5},
    "best_epoch": 1,
    "epochs": 2,
    "history": [[1, 0.5], [2, 0.25]],
    "seconds": 1.5,
    "date": "2024-05-06T07:08:09+00:00",
}


def read(file: Path) -> None:
    """Everything that a search does with its trials."""
    trials = Trials(file, SPACE)
    best(trials.all())
    report(STUDY, trials.all(), None, None, file.parent)
    trials_csv(STUDY, trials.all()).encode()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"params": {"a": "x"}}, "has other 'params' than this search"),
        ({"params": {"a": "y", "b": 0.5}}, "has other 'params' than this search"),
        ({"params": {"a": "x", "b": 2}}, "has other 'params' than this search"),
        ({"params": {"a": 1, "b": 0.5}}, "has an 'id' that its 'params' do not give"),
        ({"score": float("nan")}, "has a wrong 'score': NaN"),
        ({"history": [[1]]}, "has a wrong 'history'"),
        ({"trial": "1"}, "has a wrong 'trial'"),
    ],
)
def test_what_is_no_trial_of_this_search_is_told(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_text(json.dumps(TRIAL) + "\n" + json.dumps({**TRIAL, **changes}) + "\n")
    with pytest.raises(UserError, match=rf"line 2: no record of a trial: it {why}"):
        read(file)


def test_no_damage_ends_in_another_error(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    line = (json.dumps(TRIAL) + "\n").encode()
    file.write_bytes(line)
    read(file)
    contents = [text.encode("utf-8", "surrogatepass") + b"\n" for text in changed(TRIAL, 4, 200)]
    refused: list[str] = []
    for content in [*contents, *damaged(line + line, 5, 200)]:
        file.write_bytes(line + content)
        try:
            read(file)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert not any("\n" in line for line in refused)


def test_a_test_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    file = tmp_path / "test.json"
    whole = {"trial": 1, "status": "done", "test": {"hit@10": 0.5}, "model_file": "saved/x.pth"}
    assert read_test(file) is None
    file.write_text(json.dumps(whole))
    assert read_test(file) == whole
    for text in changed(whole, 12, 100):
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        found = read_test(file)
        if found is not None:
            report(STUDY, [TRIAL], None, found, tmp_path)


@pytest.mark.parametrize("changes", [{"valid": [0.5]}, {"valid": 1.5}, {"history": {}}, {"score": "high"}])
def test_a_failed_trial_has_nothing_of_another_kind(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "trials.jsonl"
    failed = {
        **{key: TRIAL[key] for key in ("id", "trial", "params", "seconds", "date")},
        "status": "failed",
        "error": "no",
    }
    file.write_text(json.dumps(failed) + "\n")
    read(file)
    file.write_text(json.dumps({**failed, **changes}) + "\n")
    with pytest.raises(UserError, match="line 1: no record of a trial: it has a wrong"):
        read(file)
