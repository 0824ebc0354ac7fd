"""What an evaluation keeps of the items while the weights stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import NAME, pattern_settings, write_pattern_shop
from torch import Tensor

import recbole_mmm4rec  # noqa: F401 (registers the model)
from recbole_mmm4rec.run.build import Run, build, make_config


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A tiny model on the pattern shop, in evaluation mode."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run_recbole.py"])
    write_pattern_shop(tmp_path)
    made = build(make_config("MMM4Rec", NAME, config_dict=pattern_settings(tmp_path)), count_flops=False)
    made.model.eval()
    return made


def scores(run: Run, rows: slice = slice(None)) -> Tensor:
    batch = next(iter(run.test))[0]
    with torch.no_grad():
        found: Tensor = run.model.full_sort_predict(batch[list(range(len(batch)))[rows]])
    return found[:, 1:]


def test_inputs_of_all_items_are_made_once_they_pay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few = scores(run, slice(2))
    assert run.model._kept[1].inputs is None  # two histories hold fewer items than the shop
    many = scores(run)
    kept = run.model._kept[1].inputs
    assert kept is not None
    torch.testing.assert_close(many[:2], few, rtol=1e-5, atol=1e-5)
    assert scores(run) is not None
    assert run.model._kept[1].inputs is kept
    run.model.train().eval()
    assert run.model._kept is None
    monkeypatch.setattr("recbole_mmm4rec.scoring.recommend.INPUT_BYTES", 1)
    torch.testing.assert_close(scores(run), many, rtol=1e-5, atol=1e-5)
    assert run.model._kept[1].inputs is None


@pytest.mark.parametrize(
    "name", ["items.adapter.text.weight", "input_norm.image.weight", "layers.0.ssd.in_proj.weight"]
)
def test_what_is_kept_follows_the_weights(run: Run, name: str) -> None:
    before = scores(run)
    weight = run.model.network.get_parameter(name)
    with torch.no_grad():
        weight.add_(torch.randn_like(weight))
    after = scores(run)
    run.model.train().eval()
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(scores(run), after, rtol=1e-5, atol=1e-5)


def test_gradients_see_the_weights_as_they_are(run: Run) -> None:
    """With gradients nothing is kept and nothing kept is used."""
    wanted: Any = scores(run)
    batch = next(iter(run.test))[0]
    found = run.model.full_sort_predict(batch)[:, 1:]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    found.sum().backward()
    assert run.model.network.items.adapter["text"].weight.grad.abs().sum() > 0
