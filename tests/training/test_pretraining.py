"""Pre-training: its defaults, what it trains on, its checkpoints, and going on after it was killed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from breaking import broken_off
from pattern_shop import NAME, pattern_settings, prepared, train_and_be_killed, write_pattern_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read
from recbole_mmm4rec.losses.objectives import InBatch
from recbole_mmm4rec.run import cli, quick_start

pytestmark = pytest.mark.usefixtures("own_folder", "forked")


def pretraining(folder: Path, **changes: Any) -> Any:
    return prepared(folder, stage="pretrain", **changes)


def names(folder: Path) -> list[str]:
    """Checkpoints, without the part that all have in common."""
    return sorted(file.stem.partition(f"{NAME}-")[2][8:] for file in (folder / "saved").glob("*.safetensors"))


def test_defaults_and_what_wins(tmp_path: Path) -> None:
    run = pretraining(tmp_path)
    assert isinstance(run.model.objective, InBatch)
    assert not run.model.network.items.bias
    run = pretraining(tmp_path, loss_type="CE", is_modality_bias=True)
    assert not isinstance(run.model.objective, InBatch)
    assert run.model.network.items.bias
    assert not isinstance(prepared(tmp_path).model.objective, InBatch)


def test_what_is_held_out(tmp_path: Path) -> None:
    write_pattern_shop(tmp_path)
    lines = (tmp_path / NAME / f"{NAME}.inter").read_text().splitlines()[1:]
    users = len({line.split("\t")[0] for line in lines})
    samples = len(lines) - users  # the first of a user has no history
    last = pretraining(tmp_path)
    assert (last.train.sample_size, last.valid.sample_size) == (samples - users, users)
    assert not last.test
    # whatever the data set's own file says about splits
    everything = pretraining(tmp_path, pretrain_on="all", eval_args={"split": {"LS": "valid_and_test"}})
    assert everything.train.sample_size == samples
    assert not everything.valid
    assert not everything.test


def test_checkpoints_by_epoch(tmp_path: Path) -> None:
    run = pretraining(tmp_path, epochs=5, pretrain_checkpoint_every=2, pretrain_on="all")
    run.trainer.fit(run.train, run.valid)
    assert names(tmp_path) == ["", "-epoch0002", "-epoch0004", "-last"]
    by_epoch = {file.stem[-9:]: read(file) for file in (tmp_path / "saved").glob("*.safetensors")}
    assert by_epoch["epoch0002"]["epoch"] == 1
    assert by_epoch["epoch0004"]["epoch"] == 3
    weights = run.model.state_dict()
    kept_files = run.trainer.training.at("keeping").files
    for file in (run.trainer.saved_model_file, kept_files.last):
        kept = read(file)
        assert kept["epoch"] == 4
        assert all(torch.equal(kept["state_dict"][name], weight) for name, weight in weights.items())
    files = kept_files.by_epoch()
    for file in files:
        assert prepared(tmp_path, pretrained=file).trainer.transferred
    much_later = kept_files.of_epoch(10000)
    much_later.touch()
    assert kept_files.by_epoch() == [*files, str(much_later)]


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path) -> None:
    run = pretraining(tmp_path, epochs=2, pretrain_checkpoint_every=1)
    run.trainer.fit(run.train, run.valid, saved=False)
    assert names(tmp_path) == []
    run = pretraining(tmp_path, epochs=2, pretrain_checkpoint_every=0)
    run.trainer.fit(run.train, run.valid)
    assert names(tmp_path) == ["", "-last"]


def test_it_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    changes = {"epochs": 5, "pretrain_checkpoint_every": 2}
    write_pattern_shop(tmp_path)
    train_and_be_killed(tmp_path, 3, stage="pretrain", **changes)
    assert names(tmp_path)[:2] == ["", "-epoch0002"]
    run = pretraining(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert run.trainer.start_epoch == 3
    assert names(tmp_path) == ["", "-epoch0002", "-epoch0004", "-last"]
    assert [entry.epoch for entry in run.trainer.valid_history] == [1, 2, 3, 4, 5]
    seconds = [entry.seconds for entry in run.trainer.valid_history]
    assert seconds == sorted(seconds)
    assert run.trainer.best_valid_result["hit@10"] == max(entry.result["hit@10"] for entry in run.trainer.valid_history)


def test_a_killed_one_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """To the last bit: the order of the samples and dropout go on as well."""
    changes = {"epochs": 4, "pretrain_checkpoint_every": 2, "dropout_prob": 0.2, "embedding_drop_prob": 0.2}
    found = []
    for folder, breaks in ((tmp_path / "a", (1, 3)), (tmp_path / "b", ())):
        for epoch in breaks:
            stopped(folder, epoch, **changes)
        run = pretraining(folder, **changes)
        run.trainer.fit(run.train, run.valid)
        found.append(([entry.result for entry in run.trainer.valid_history], run.model.state_dict()))
    assert found[0][0] == found[1][0]
    for name, weight in found[1][1].items():
        assert torch.equal(found[0][1][name], weight), name


def test_a_finished_one_is_not_trained_again(tmp_path: Path) -> None:
    changes = pattern_settings(tmp_path, stage="pretrain", epochs=2)
    write_pattern_shop(tmp_path)
    first = quick_start.run_recbole("MMM4Rec", NAME, config_dict=dict(changes))
    best = Path(first["saved_model_file"])
    content, files = best.read_bytes(), names(tmp_path)
    again = quick_start.run_recbole("MMM4Rec", NAME, config_dict=dict(changes))
    assert (best.read_bytes(), names(tmp_path)) == (content, files)
    assert again["valid_history"] == first["valid_history"]
    assert again["best_valid_result"] == dict(first["best_valid_result"])
    assert again["best_epoch"] == first["best_epoch"]
    longer = quick_start.run_recbole("MMM4Rec", NAME, config_dict={**changes, "epochs": 3})
    assert [entry.epoch for entry in longer["valid_history"]] == [1, 2, 3]
    assert longer["saved_model_file"] == first["saved_model_file"]
    anew = quick_start.run_recbole("MMM4Rec", NAME, config_dict={**changes, "epochs": 1, "resume": False})
    assert [entry.epoch for entry in anew["valid_history"]] == [1]


def stopped(folder: Path, epoch: int, **changes: Any) -> None:
    """A pre-training that ends in the middle of an epoch, counted from 0."""
    broken_off(pretraining(folder, **changes), epoch)


def test_one_that_begins_anew_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    changes = {"epochs": 4, "pretrain_checkpoint_every": 2}
    run = pretraining(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert "-epoch0004" in names(tmp_path)
    pretraining(tmp_path, resume=False, **changes).trainer.fit(run.train, run.valid, saved=False)
    assert "-epoch0004" in names(tmp_path)
    stopped(tmp_path, 0, resume=False, **changes)
    assert names(tmp_path) == []
    stopped(tmp_path, 1, resume=False, **changes)
    run = pretraining(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert run.trainer.start_epoch == 1


def test_epoch_0_stays_the_best_where_the_training_begins_anew(tmp_path: Path) -> None:
    run = pretraining(tmp_path, epochs=1, resume=False, evaluate_first=True, learning_rate=1e-12)
    scores = iter([0.9, 0.1])
    run.trainer._valid_epoch = lambda *args, **kwargs: ((score := next(scores)), {"hit@10": score})
    run.trainer.fit(run.train, run.valid)
    assert read(run.trainer.saved_model_file)["epoch"] == -1


def test_processes_that_torchrun_starts_again_never_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"epochs": 4, "pretrain_checkpoint_every": 1, "resume": False}
    stopped(tmp_path, 3, **changes)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    run = pretraining(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert run.trainer.start_epoch == 3
    assert {"-epoch0001", "-epoch0002", "-epoch0004"} <= set(names(tmp_path))


def test_epoch_0_is_validated_once(tmp_path: Path) -> None:
    changes = {"epochs": 1, "evaluate_first": True}
    stopped(tmp_path, 0, **changes)
    run = pretraining(tmp_path, **changes)
    run.trainer.fit(run.train, run.valid)
    assert [entry.epoch for entry in run.trainer.valid_history] == [0, 1]


def test_one_that_stopped_early_has_ended(tmp_path: Path) -> None:
    run = pretraining(tmp_path, epochs=9, stopping_step=1)
    falling = iter([0.5, 0.4, 0.3])
    run.trainer.evaluate = lambda *_, **__: {"hit@10": next(falling)}
    run.trainer.fit(run.train, run.valid)
    again = pretraining(tmp_path, epochs=9, stopping_step=1)
    assert again.trainer.fit(again.train, again.valid) == (0.5, {"hit@10": 0.5})
    assert len(again.trainer.valid_history) == again.trainer.start_epoch == 3
    patient = pretraining(tmp_path, epochs=9, stopping_step=5)
    patient.trainer.fit(patient.train, patient.valid)
    assert len(patient.trainer.valid_history) > 3


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 0.02}, {"hidden_size": 32}, {"pretrain_on": "all"}])
def test_another_run_is_another_run(tmp_path: Path, change: dict[str, Any]) -> None:
    run = pretraining(tmp_path, epochs=1)
    run.trainer.fit(run.train, run.valid)
    again, other = pretraining(tmp_path, epochs=1), pretraining(tmp_path, epochs=1, **change)
    for begun, run_again in ((1, again), (0, other)):
        run_again.trainer.fit(run_again.train, run_again.valid)
        assert run_again.trainer.start_epoch == begun
    assert other.trainer.saved_model_file != run.trainer.saved_model_file


def test_the_command_says_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pattern_shop(tmp_path)
    settings = pattern_settings(tmp_path, epochs=2, pretrain_checkpoint_every=1, state="ERROR")
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    assert cli.main([f"--dataset={NAME}", "--stage=pretrain", *arguments]) == 0
    shown = capsys.readouterr().out
    lines = shown[shown.index(f"MMM4Rec on {NAME}") :].splitlines()
    assert not any(line.startswith("test") for line in lines)
    assert [Path(line.split()[-1]).name[-21:] for line in lines if "-epoch" in line] == [
        "epoch0001.safetensors",
        "epoch0002.safetensors",
    ]
    command = shlex.split(lines[-1])
    assert command[:4] == ["python", "run_recbole.py", "--model=MMM4Rec", "--dataset=NAME"]
    shaping = {"--hidden_size=16", "--MAX_ITEM_LIST_LENGTH=6", "--d_state=4", "--n_groups=2", "--head_dim=8"}
    assert shaping <= set(command)
    # as typed, on a shop of ours, without training
    where = [f"--data_path={tmp_path}", f"--checkpoint_dir={tmp_path / 'saved'}", "--state=ERROR", "--topk=[10]"]
    typed = [word.replace("NAME", NAME) for word in command[2:]]
    assert cli.main([*typed, *where, "--epochs=0", "--show_progress=False"]) == 0
    assert "test  " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "pre-train"}, "stage='pre-train': it must be train or pretrain"),
        ({"pretrain_on": "most"}, "pretrain_on='most': it must be all_but_last or all"),
        ({"pretrain_checkpoint_every": -1}, "pretrain_checkpoint_every=-1: it must be a whole number, at least 0"),
        ({"resume": "yes"}, "resume='yes': it must be one of auto, True, False"),
        ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename=.*pre-training splits by itself"),
    ],
)
def test_values_are_checked(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepared(tmp_path, **{"stage": "pretrain", **changes})


@pytest.mark.parametrize("given", [{"pretrain_on": "all"}, {"pretrain_checkpoint_every": 2}])
def test_settings_of_a_pretraining_need_one(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"pretrain_.*: it needs stage=pretrain, which is not set"):
        prepared(tmp_path, **given)


def test_data_files_with_other_times_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = pretraining(tmp_path, epochs=1)
    run.trainer.fit(run.train, run.valid)
    assert "begins anew" not in caplog.text
    file = tmp_path / NAME / f"{NAME}.inter"
    os.utime(file, ns=(1, 1))
    again = pretraining(tmp_path, epochs=1)
    again.trainer.fit(again.train, again.valid)
    (line,) = [line for line in caplog.messages if "begins anew" in line]
    assert f"{Path(run.trainer.saved_model_file).stem}-last.safetensors is of other settings or data files" in line


def test_only_our_model_and_without_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pattern_shop(tmp_path)
    where = [f"--dataset={NAME}", f"--data_path={tmp_path}", "--stage=pretrain"]
    assert cli.main([*where, "--model=SASRec"]) == 2
    assert "SASRec has no such thing" in capsys.readouterr().err
    assert cli.main([*where, "--baselines=Pop"]) == 2
    assert "a pre-training has no test to compare" in capsys.readouterr().err
