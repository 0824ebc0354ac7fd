"""Trainings that are broken off and go on after the last epoch that was noted, in one process."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from breaking import AtEpoch, KilledError, broken_off
from shop import settings, write_shop

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read, write
from recbole_mmm4rec.checkpoints.run_files import RunFiles
from recbole_mmm4rec.run.build import Run, build, make_config

pytestmark = pytest.mark.usefixtures("own_folder")


def prepared(folder: Path, model: str = "SASRec", **changes: Any) -> Run:
    """A run with ``resume: True`` that never stops by itself."""
    if not (folder / "shop").exists():
        write_shop(folder)
    given = {"train_neg_sample_args": None, "train_batch_size": 64, "stopping_step": 100, "resume": True, **changes}
    return build(make_config(model, "shop", config_dict=settings(folder, **given)), count_flops=False)


def trained(run: Run) -> list[int]:
    """The epochs behind all validations, once the training has ended."""
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    return [entry.epoch for entry in run.trainer.valid_history]


def checkpoint(run: Run) -> dict[str, Any]:
    return read(run.trainer.saved_model_file)


def test_what_goes_on_is_the_undisturbed_training(tmp_path: Path) -> None:
    """To the last bit, dropout and order among it."""
    whole = prepared(tmp_path, epochs=5, checkpoint_dir=str(tmp_path / "whole"))
    assert trained(whole) == [1, 2, 3, 4, 5]
    broken_off(prepared(tmp_path, epochs=5), 3)
    again = prepared(tmp_path, epochs=5)
    assert trained(again) == [1, 2, 3, 4, 5]
    assert [entry.result for entry in again.trainer.valid_history] == [e.result for e in whole.trainer.valid_history]
    assert checkpoint(again)["epoch"] == checkpoint(whole)["epoch"]
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name


def test_a_note_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    broken_off(prepared(tmp_path, epochs=3), 2)
    run = prepared(tmp_path, epochs=3)
    note = RunFiles(run.trainer.config).last
    victims = [tmp_path / "victim.pth", tmp_path / "victim.pth.epoch7", tmp_path / "SASRec-a.pth"]
    for victim in victims:
        victim.write_bytes(b"precious")
    state = {name: value for name, value in read(note).items() if name != "config"}
    write(note, {**state, "saved_model_file": str(victims[0])})
    with pytest.raises(UserError, match=r"saved_model_file: .*victim\.pth' is no best model's file; remove it"):
        run.trainer.fit(run.train, run.valid)
    write(note, {**state, "saved_model_file": str(victims[2])})
    with pytest.raises(UserError, match=r"saved/SASRec-a\.pth, the best model of that training, is not there"):
        trained(prepared(tmp_path, epochs=3))
    (tmp_path / "saved" / "SASRec-a.pth").write_bytes(note.read_bytes())
    assert trained(prepared(tmp_path, epochs=3)) == [1, 2, 3]
    assert all(victim.read_bytes() == b"precious" for victim in victims)


@pytest.mark.parametrize("content", [{}, {"epoch": "x"}, {"a": 1}, {"epoch": 3}, {"epoch": 1, "noted": {}}])
def test_another_dictionary_is_told(tmp_path: Path, content: dict[str, Any]) -> None:
    run = prepared(tmp_path, epochs=3)
    note = RunFiles(run.trainer.config).last
    write(note, content)
    with pytest.raises(
        UserError, match=r"-last\.safetensors is no state of a training.*; remove it to begin anew"
    ) as caught:
        run.trainer.fit(run.train, run.valid)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_last_good_state(tmp_path: Path) -> None:
    """As the system tells it when a file grows beyond what is allowed."""
    changes = {"epochs": 4, "hidden_size": 64, "inner_size": 64}
    whole = prepared(tmp_path, checkpoint_dir=str(tmp_path / "whole"), **changes)
    trained(whole)
    run = prepared(tmp_path, **changes)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.trainer.training.add(AtEpoch(2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))))
    try:
        with pytest.raises(UserError, match=r"^'.*' cannot be written: File too large; make room \(what had") as caught:
            run.trainer.fit(run.train, run.valid, verbose=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert read(RunFiles(run.trainer.config).last)["epoch"] == 1
    assert not list((tmp_path / "saved").glob(".*"))
    again = prepared(tmp_path, **changes)
    assert trained(again) == [1, 2, 3, 4]
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name


def test_a_module_among_the_other_parameters_is_noted_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SASRecF and FDSA have it, whose module holds the data set besides."""
    from recbole.model.sequential_recommender import SASRec

    monkeypatch.setattr(SASRec, "other_parameter_name", ["item_embedding"], raising=False)
    broken_off(prepared(tmp_path, epochs=3), 2)
    run = prepared(tmp_path, epochs=3)
    noted = read(RunFiles(run.trainer.config).last)
    assert noted["other_parameter"] == {}
    assert trained(run) == [1, 2, 3]


@pytest.mark.parametrize("model", ["RecVAE", "SASRec"])
def test_what_a_note_cannot_hold_begins_anew_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    from recbole.model.sequential_recommender import SASRec

    monkeypatch.setattr(SASRec, "other_parameter_name", ["seen"], raising=False)
    monkeypatch.setattr(SASRec, "seen", {1, 2}, raising=False)
    run = prepared(tmp_path, model, epochs=1)
    trained(run)
    reason = "several optimisers" if model == "RecVAE" else "seen is no tensor and no plain value"
    assert f"a training of {model} that is broken off begins anew: " in caplog.text
    assert reason in caplog.text
    assert not RunFiles(run.trainer.config).last.exists()


def test_more_epochs_go_on_after_a_finished_training(tmp_path: Path) -> None:
    assert trained(prepared(tmp_path, epochs=2)) == [1, 2]
    assert trained(prepared(tmp_path, epochs=4)) == [1, 2, 3, 4]


def test_a_training_that_stopped_by_itself_has_ended(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=30, stopping_step=1)
    scores = iter([0.9, 0.3, 0.2])
    run.trainer._valid_epoch = lambda *args, **kwargs: ((score := next(scores)), {"mrr@10": score})
    run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    again = prepared(tmp_path, epochs=40, stopping_step=1)
    assert again.trainer.fit(again.train, again.valid, verbose=False, show_progress=False)[0] == 0.9
    assert again.trainer.train_loss_dict == run.trainer.train_loss_dict


def test_fewer_epochs_leave_the_best_model_as_it_is(tmp_path: Path) -> None:
    run = prepared(tmp_path, epochs=9)
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4])
    run.trainer._valid_epoch = lambda *args, **kwargs: ((score := next(scores)), {"mrr@10": score})
    broken_off(run, 5)
    best = checkpoint(run)
    assert best["epoch"] == 1
    fewer = prepared(tmp_path, epochs=3)
    fewer.trainer.fit(fewer.train, fewer.valid, verbose=False, show_progress=False)
    assert fewer.trainer.best_valid_score == 0.9
    assert fewer.trainer.saved_model_file == run.trainer.saved_model_file
    assert checkpoint(fewer)["epoch"] == 1
    torch.testing.assert_close(checkpoint(fewer)["state_dict"], best["state_dict"])


def test_the_best_model_is_one_of_the_noted_epochs(tmp_path: Path) -> None:
    """A kill after the best model was written and before its epoch was noted."""
    run = prepared(tmp_path, epochs=9)
    scores = iter([0.5, 0.1, 0.9])
    run.trainer._valid_epoch = lambda *args, **kwargs: ((score := next(scores)), {"mrr@10": score})
    save = run.trainer._save_checkpoint

    def dying(epoch: int, *args: Any, **kwargs: Any) -> None:
        save(epoch, *args, **kwargs)
        if epoch == 2:
            raise KilledError

    run.trainer._save_checkpoint = dying
    with pytest.raises(KilledError):
        run.trainer.fit(run.train, run.valid, verbose=False, show_progress=False)
    assert checkpoint(run)["epoch"] == 0
    again = prepared(tmp_path, epochs=3)
    again.trainer._valid_epoch = lambda *args, **kwargs: (0.2, {"mrr@10": 0.2})
    score, _ = again.trainer.fit(again.train, again.valid, verbose=False, show_progress=False)
    assert score == 0.5
    assert checkpoint(again)["epoch"] == 0
    assert not list((tmp_path / "saved").glob("*.epoch*"))


def test_a_damaged_note_is_told(tmp_path: Path) -> None:
    broken_off(prepared(tmp_path, epochs=3), 2)
    run = prepared(tmp_path, epochs=3)
    note = RunFiles(run.trainer.config).last
    note.write_bytes(note.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"-last\.safetensors is damaged; remove it to begin anew"):
        trained(run)
