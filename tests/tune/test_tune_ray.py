"""Trials side by side in a Ray cluster of two processors; ASHA ends those that are behind."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pattern_shop import NAME, pattern_settings, write_pattern_shop

from recbole_mmm4rec.tune.__main__ import main
from recbole_mmm4rec.tune.proposals import Proposals
from recbole_mmm4rec.tune.ray_search import RayOptions, _asha, _classes, _of_reports
from recbole_mmm4rec.tune.search import Board
from recbole_mmm4rec.tune.space import make_parameter
from recbole_mmm4rec.tune.study import Study
from recbole_mmm4rec.tune.trials import Trials

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """A command that tries one good learning rate and two that learn nothing, and a head that does not fit."""
    write_pattern_shop(tmp_path)
    (tmp_path / "fixed.yaml").write_text(yaml.safe_dump(pattern_settings(tmp_path, epochs=4, state="ERROR")))
    (tmp_path / "space.yaml").write_text("learning_rate: [0.03, 1e-9, 2e-9]\nhead_dim: [8, 7]\n")
    words = ["--model", "MMM4Rec", "--dataset", NAME, "--config_files", "fixed.yaml", "--space", "space.yaml"]
    return [*words, "--algo", "exhaustive", "--tool", "ray", "--out", "out"]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "out/trials.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_asha_ends_trials_that_are_behind(tmp_path: Path, line: list[str], cluster: str) -> None:
    asha = ["--ray-address", cluster, "--asha", "--reduction", "2", "--cpus-per-trial", "1"]
    assert main([*line, *asha, "--max-evals", "4"]) == 0
    assert len(records(tmp_path)) == 4
    assert main([*line, *asha]) == 0  # goes on with the other two
    found = records(tmp_path)
    assert len({one["id"] for one in found}) == len(found) == 6
    good = [one for one in found if one["params"]["head_dim"] == 8]
    assert all(one["status"] == "failed" and "head_dim" in one["error"] for one in found if one not in good)
    stopped = [one for one in good if one["status"] == "stopped"]
    assert stopped
    assert all(one["epochs"] < 4 and one["params"]["learning_rate"] < 0.03 for one in stopped)
    (best,) = (one for one in good if one["params"]["learning_rate"] == 0.03)
    assert (best["status"], best["epochs"], len(best["history"])) == ("done", 4, 4)
    assert yaml.safe_load((tmp_path / "out/best.yaml").read_text())["learning_rate"] == 0.03
    assert "gpu_id" not in (tmp_path / "out/best.yaml").read_text()
    assert not (tmp_path / "out/ray").exists()


def test_a_trial_that_no_machine_has_room_for_is_refused(
    line: list[str], cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, most in (("--cpus-per-trial", 2), ("--gpus-per-trial", 0)):
        assert main([*line, "--ray-address", cluster, option, "16"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"error: {option} 16: no machine of the cluster has more than {most}; take less"


def test_no_cluster_is_one_line(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--ray-address", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --ray-address 127.0.0.1:1: no Ray cluster there")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    space = [make_parameter("a", "choice", [1, 2, 3], "here")]
    study = Study("Pop", "shop", {}, space, "", "", "hit@10", True, 4, 3)
    (tmp_path / "out").mkdir()
    trials = Trials(tmp_path / "out/trials.jsonl", space)
    return Board(study, Proposals(space, "exhaustive", 0, None, trials), tmp_path / "out")


def test_a_trial_that_ray_lost_is_a_failed_one(board: Board, tmp_path: Path) -> None:
    recorder = _classes().Recorder(board)
    (tmp_path / "error.txt").write_text("Failure # 1\nThe actor died\nunexpectedly\n")
    for number, file in enumerate((str(tmp_path / "error.txt"), None), 1):
        trial = SimpleNamespace(trial_id=str(number), config={"params": {"a": number}}, error_file=file)
        recorder.on_trial_error(1, [], trial)
    told = [record["error"] for record in board.records.all()]
    assert told == ["Ray: Failure # 1 The actor died unexpectedly", "Ray: it was lost"]
    board.close()


@pytest.mark.parametrize(("epochs", "status"), [(3, "stopped"), (4, "done")])
def test_a_trial_with_all_its_epochs_was_not_ended_early(board: Board, epochs: int, status: str) -> None:
    reports = [
        {"epoch": epoch, "now": 0.5, "valid": {"hit@10": 0.5}, "time_total_s": 1.0} for epoch in range(1, epochs + 1)
    ]
    assert _of_reports(reports, board.study)["status"] == status
    board.close()


def test_asha_knows_the_trials_of_an_earlier_command(board: Board) -> None:
    """A newcomer is compared with trials that are on record."""
    for number, score in ((1, 0.5), (2, 0.6)):
        history = [[epoch, score] for epoch in (1, 2, 3, 4)]
        found = {"status": "done", "score": score, "bigger": True, "history": history}
        board.add({"a": number}, found)
    options = RayOptions(None, 1.0, 0.0, None, True, 1, 2.0)
    for score, action in ((0.1, "STOP"), (0.9, "CONTINUE")):
        scheduler = _asha(board, options)
        assert scheduler.set_search_properties("now", "max")
        newcomer = SimpleNamespace(trial_id="new")
        scheduler.on_trial_add(None, newcomer)
        assert scheduler.on_trial_result(None, newcomer, {"epoch": 1, "now": score}) == action
    board.close()
