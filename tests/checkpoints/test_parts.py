"""Parts of a checkpoint: what they hold comes back, also where it stands in another order."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pattern_shop import prepared

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints import format as files
from recbole_mmm4rec.checkpoints.parts import Order, RandomNumbers, parts_of
from recbole_mmm4rec.checkpoints.run_id import run_id
from recbole_mmm4rec.checkpoints.saving import load, save
from recbole_mmm4rec.training import optim

pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_parts_of_our_trainer(tmp_path: Path) -> None:
    names = [name for name, _ in parts_of(prepared(tmp_path, weight_average=0.5).trainer)]
    assert names.index("state_dict") < names.index("averaging")  # which takes the average from the model
    assert set(names) == {
        *("config", "cur_step", "best_valid_score", "best_valid_result", "train_loss_dict", "optimizer_step"),
        *("state_dict", "other_parameter", "optimizer", "scaler", "random", "valid_history", "saved_model_file"),
        *("averaging", "steps", "processes"),
    }  # and, once a training has begun, the order of its samples


def drawn() -> tuple[float, ...]:
    return torch.rand(1).item(), np.random.rand(), np.random.normal(), random.random(), random.gauss(0, 1)


def test_random_numbers_go_on() -> None:
    numbers = RandomNumbers(torch.device("cpu"))
    drawn()
    state = numbers.state_dict()
    wanted = drawn()
    drawn()
    numbers.load_state_dict(state)
    assert drawn() == wanted


@pytest.mark.parametrize("mixed", ["groups", "parameters"])
def test_an_optimiser_in_another_order_finds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: str
) -> None:
    """Matched by place, the means of one parameter would move another of the same shape without a word."""
    changes = {"weight_decay": 0.1, "train_batch_size": 32}
    whole = prepared(tmp_path, **changes)
    whole.trainer._train_epoch(whole.train, 0)
    save(whole.trainer, 0, tmp_path / "state.safetensors")
    order = whole.train.generator.get_state()
    whole.trainer._train_epoch(whole.train, 1)

    original = optim.parameter_groups

    def reversed_groups(*args: Any, **kwargs: Any) -> Any:
        groups = original(*args, **kwargs)
        if mixed == "groups":
            return groups[::-1]
        return [{**group, "params": group["params"][::-1]} for group in groups]

    monkeypatch.setattr(optim, "parameter_groups", reversed_groups)
    resumed = prepared(tmp_path, **changes)
    load(resumed.trainer, files.read(tmp_path / "state.safetensors"), "state.safetensors")
    resumed.train.generator.set_state(order)
    resumed.trainer._train_epoch(resumed.train, 1)
    for name, weight in whole.model.named_parameters():
        assert torch.equal(dict(resumed.model.named_parameters())[name], weight), name
    monkeypatch.setattr(optim, "parameter_groups", lambda *a, **k: [{**original(*a, **k)[0]}])
    with pytest.raises(UserError, match=r"state\.safetensors .*optimizer: its groups hold other parameters"):
        load(prepared(tmp_path, **changes).trainer, files.read(tmp_path / "state.safetensors"), "state.safetensors")


def test_epochs_count_only_with_a_schedule(tmp_path: Path) -> None:
    """A finished training can be made longer, unless its rates would have been others."""
    ids = {
        (schedule, epochs): run_id(prepared(tmp_path, lr_schedule=schedule, epochs=epochs).config)
        for schedule in ("constant", "linear")
        for epochs in (2, 3)
    }
    assert ids["constant", 2] == ids["constant", 3]
    assert len(set(ids.values())) == 3


def test_a_pretrained_start_counts_by_its_content(tmp_path: Path) -> None:
    """Under the same name its training may have gone on; elsewhere a copy is what it was."""
    source = prepared(tmp_path, epochs=1)
    save(source.trainer, 0, tmp_path / "start.safetensors")
    (tmp_path / "moved").mkdir()
    shutil.copy(tmp_path / "start.safetensors", tmp_path / "moved" / "copy.safetensors")
    first, moved = (
        run_id(prepared(tmp_path, pretrained=str(tmp_path / name)).config)
        for name in ("start.safetensors", "moved/copy.safetensors")
    )
    source.trainer._train_epoch(source.train, 0)
    save(source.trainer, 1, tmp_path / "start.safetensors")
    longer = run_id(prepared(tmp_path, pretrained=str(tmp_path / "start.safetensors")).config)
    assert first == moved
    assert first != longer


def test_what_notes_of_features_say_since_is_no_other_run(tmp_path: Path) -> None:
    """A training of before goes on under its name; the files of the features count by themselves."""
    config = prepared(tmp_path, epochs=1).config
    name, note = run_id(config), config["feature_encoders"]
    assert note["text"].keys() == {"encoder", "hash", "settings", "normalized", "lacking"}
    first = ("encoder", "hash", "settings")
    config["feature_encoders"] = {modality: {key: made[key] for key in first} for modality, made in note.items()}
    assert run_id(config) == name
    config["feature_encoders"]["text"]["encoder"] = "another"
    assert run_id(config) != name


def test_an_older_note_is_read(tmp_path: Path) -> None:
    """Its parts stood in groups."""
    run = prepared(tmp_path, weight_average=0.5, epochs=2)
    run.trainer.fit(run.train, run.valid, verbose=False)
    save(run.trainer, 1, tmp_path / "new.safetensors")
    state = files.read(tmp_path / "new.safetensors")
    noted = ("cur_step", "best_valid_score", "best_valid_result", "train_loss_dict", "saved_model_file")
    old = {name: state[name] for name in ("epoch", "valid_history", "state_dict", "other_parameter", "scaler", "order")}
    (old["order"],) = state["order"]
    old["optimizer"] = {name: state["optimizer"][name] for name in ("state", "param_groups")}
    old |= {"finished": True, "noted": {name: state[name] for name in noted} | {"optimizer_step": 7}}
    old["noted"]["saved_model_file"] = str(tmp_path / "elsewhere" / state["saved_model_file"])
    torch.save({**old, "more": {"averaging": state["averaging"]}}, tmp_path / "old.pth")
    again = prepared(tmp_path, weight_average=0.5, epochs=2)
    load(again.trainer, files.read(tmp_path / "old.pth"), "old.pth")
    trainer = again.trainer
    assert (trainer.start_epoch, trainer.optimizer_step) == (2, 7)
    assert trainer.valid_history == run.trainer.valid_history
    assert trainer.saved_model_file == str(tmp_path / "saved" / state["saved_model_file"])
    for name, weight in run.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight)
    trainer.averaging.hide()
    assert not torch.equal(
        *(next(iter(one.network.parameters())) for one in (trainer.averaging, run.trainer.averaging))
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", None),
        ("epoch", -5),
        ("cur_step", "much"),
        ("state_dict", {}),
        ("state_dict", [1]),
        ("optimizer", {"state": {}}),
        ("valid_history", [(1, 2)]),
        ("valid_history", [("a", "b", {}, 0, 0, 0)]),
        ("saved_model_file", "../../victim"),
        ("saved_model_file", {"a": 1}),
        ("random", {}),
        ("other_parameter", 3),
    ],
)
def test_other_contents_end_in_one_line(tmp_path: Path, name: str, value: Any) -> None:
    run = prepared(tmp_path)
    save(run.trainer, 0, tmp_path / "state.safetensors")
    state = {**files.read(tmp_path / "state.safetensors"), name: value}
    if value is None:
        del state[name]
    with pytest.raises(UserError, match=rf"^state\.safetensors is .*{name}") as caught:
        load(run.trainer, state, "state.safetensors")
    assert "\n" not in str(caught.value)


def test_a_best_models_file_stays_in_the_folder(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    part = dict(parts_of(run.trainer))["saved_model_file"]
    for path in ("/etc/MMM4Rec-x.safetensors", "..\\MMM4Rec-x.safetensors", "MMM4Rec-x.safetensors"):
        part.load_state_dict(path)
        assert run.trainer.saved_model_file == str(tmp_path / "saved" / "MMM4Rec-x.safetensors")
    for path in ("victim.pth", "MMM4Rec-x.txt", "MMM4Rec-shop-00000000-last.safetensors", "MMM4Rec-last.pth", ""):
        with pytest.raises(ValueError, match="is no best model's file"):
            part.load_state_dict(path)


def test_the_order_of_an_older_file_is_read() -> None:
    """It was the tensor of one generator, and is a list of those of all."""
    first, second, taken = (torch.Generator().manual_seed(seed) for seed in (1, 2, 3))
    assert len(Order([first, second]).state_dict()) == 2
    Order([taken]).load_state_dict(first.get_state())
    assert torch.equal(taken.get_state(), first.get_state())
    Order([taken]).load_state_dict(Order([second]).state_dict())
    assert torch.equal(taken.get_state(), second.get_state())
    with pytest.raises(ValueError, match="shorter"):
        Order([first, second]).load_state_dict(first.get_state())
