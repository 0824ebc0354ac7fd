"""Averaged weights: validated, kept, and gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import prepared, train_and_be_killed, write_pattern_shop
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.checkpoints.format import read

pytestmark = pytest.mark.usefixtures("own_folder", "forked")


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    decay, epochs = 0.7, 3
    run = prepared(tmp_path, epochs=epochs, weight_average=decay, stopping_step=100)
    network, trainer = run.model.network, run.trainer
    average: dict[str, Tensor] = {}
    after, validated = [], []
    step, validate = trainer._step, trainer._valid_epoch

    def noted_step(*args: Any) -> Any:
        found = step(*args)
        weights = weights_of(network)
        for name, weight in weights.items():
            average[name] = decay * average[name] + (1 - decay) * weight if name in average else weight
        after.append(weights)
        return found

    def noted_validation(*args: Any, **kwargs: Any) -> Any:
        validated.append(weights_of(network))
        for name, weight in average.items():
            torch.testing.assert_close(validated[-1][name], weight, rtol=1e-5, atol=1e-6, msg=name)
        return validate(*args, **kwargs)

    trainer._step, trainer._valid_epoch = noted_step, noted_validation
    trainer.fit(run.train, run.valid)
    assert len(validated) == epochs
    name = "layers.0.ssd.in_proj.weight"
    assert not torch.allclose(validated[-1][name], after[-1][name], atol=1e-5)
    best = max(trainer.valid_history, key=lambda entry: (entry.result["hit@10"], entry.epoch)).epoch
    kept = read(trainer.saved_model_file)["state_dict"]
    assert torch.equal(kept[f"network.{name}"], validated[best - 1][name])
    trainer.evaluate(run.test)  # of the best one, which is put into the model
    assert torch.equal(weights_of(network)[name], validated[best - 1][name])


@pytest.mark.parametrize("way", [{"stage": "pretrain"}, {"resume": True}], ids=["pretrain", "resume"])
def test_averages_go_on_as_if_nothing_had_happened(tmp_path: Path, way: dict[str, Any]) -> None:
    changes = {"epochs": 4, "weight_average": 0.8, "seed": 3, "stopping_step": 100, **way}
    write_pattern_shop(tmp_path / "killed")
    train_and_be_killed(tmp_path / "killed", 2, **changes)
    found = []
    for folder in ("killed", "whole"):
        run = prepared(tmp_path / folder, **changes)
        run.trainer.fit(run.train, run.valid)
        found.append(run)
    again, whole = found
    assert again.trainer.start_epoch == 2
    results = [[entry.result for entry in run.trainer.valid_history] for run in found]
    assert results[0] == results[1]
    for name, weight in weights_of(whole.model).items():
        assert torch.equal(weights_of(again.model)[name], weight), name


@pytest.mark.parametrize("value", [1, -0.1, "much"])
def test_a_share_that_is_none_is_told(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserError, match=r"weight_average=.*: it must be a number from 0 to below 1"):
        prepared(tmp_path, weight_average=value)
