"""RecBole's own models on a processor: the same numbers in fewer passes, and other masks of the same probability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from shop import settings, write_shop
from torch import nn

from recbole_mmm4rec.run import cli
from recbole_mmm4rec.run.build import Run, build, make_config
from recbole_mmm4rec.training.fast_cpu import CheapDropout, speed_up

pytestmark = pytest.mark.usefixtures("own_folder")

SIZES = {"hidden_size": 16, "inner_size": 32, "n_heads": 2, "loss_type": "CE", "train_neg_sample_args": None}


def made(folder: Path, model: str = "SASRec", **changes: Any) -> Run:
    if not (folder / "shop").exists():
        write_shop(folder)
    config = make_config(model, "shop", config_dict={**settings(folder), **SIZES, **changes})
    return build(config, count_flops=False)


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec", "GRU4Rec"])
def test_the_same_numbers_without_dropout(tmp_path: Path, model: str) -> None:
    none = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0}
    found = []
    for fast in (False, True):
        run = made(tmp_path, model, fast_cpu=fast, **none)
        run.model.train()
        batch = next(iter(run.train))
        loss = run.model.calculate_loss(batch)
        loss.backward()
        gradients = {name: weight.grad for name, weight in run.model.named_parameters()}
        found.append((loss.detach(), gradients, run.model.state_dict()))
    (loss, gradients, weights), (fast_loss, fast_gradients, fast_weights) = found
    torch.testing.assert_close(fast_loss, loss)
    assert fast_weights.keys() == weights.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_what_is_changed(tmp_path: Path) -> None:
    plain, fast = made(tmp_path).model, made(tmp_path, fast_cpu=True).model
    assert not any(isinstance(part, CheapDropout) for part in plain.modules())
    kinds = {type(part) for part in fast.modules() if isinstance(part, nn.Dropout)}
    assert kinds == {CheapDropout}
    assert fast.trm_encoder.layer[0].feed_forward.intermediate_act_fn is F.gelu
    other = made(tmp_path, fast_cpu=True, hidden_act="relu").model
    assert other.trm_encoder.layer[0].feed_forward.intermediate_act_fn is F.relu


def test_as_many_are_dropped() -> None:
    layer = nn.Sequential(nn.Dropout(0.3))
    speed_up({"fast_cpu": True, "device": "cpu"}, layer)
    values = layer(torch.ones(1_000_000))
    assert float((values == 0).float().mean()) == pytest.approx(0.3, abs=0.003)  # six standard errors
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)
    assert torch.equal(layer.eval()(torch.ones(5)), torch.ones(5))
    everything = nn.Dropout(1.0)
    speed_up({"fast_cpu": True, "device": "cpu"}, everything)
    assert torch.equal(everything(torch.ones(5)), torch.zeros(5))


@pytest.mark.parametrize("config", [{"fast_cpu": True, "device": "cuda"}, {"fast_cpu": None, "device": "cpu"}])
def test_where_nothing_changes(config: dict[str, Any]) -> None:
    layer = nn.Dropout(0.3)
    speed_up(config, layer)
    assert type(layer) is nn.Dropout


def test_a_value_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shop(tmp_path)
    assert cli.main(["--model=SASRec", "--dataset=shop", f"--data_path={tmp_path}", "--fast_cpu=maybe"]) == 2
    assert "fast_cpu=maybe: it must be True or False" in capsys.readouterr().err
