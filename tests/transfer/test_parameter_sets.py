"""Named sets of parameters: what they hold, what stays frozen, how fast they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pattern_shop import prepared
from torch import Tensor

from recbole_mmm4rec.base.errors import UserError
from recbole_mmm4rec.run.build import Run
from recbole_mmm4rec.settings.parts import PARTS, SETS
from recbole_mmm4rec.transfer.parameter_sets import members, short

pytestmark = pytest.mark.usefixtures("own_folder")


def weights(run: Run) -> dict[str, Tensor]:
    return {short(name): weight.detach().clone() for name, weight in run.model.named_parameters()}


def moved(run: Run, epoch: int = 0) -> set[str]:
    """The parameters that an epoch changes."""
    before = weights(run)
    run.trainer._train_epoch(run.train, epoch)
    return {name for name, weight in weights(run).items() if not torch.equal(weight, before[name])}


def checkpoint(folder: Path, **changes: Any) -> str:
    run = prepared(folder, is_modality_bias=False, **changes)
    run.trainer._save_checkpoint(0, verbose=False)
    return str(run.trainer.saved_model_file)


def test_what_the_names_hold(tmp_path: Path) -> None:
    model = prepared(tmp_path, missing_images=0.2, item_mm_fusion="dynamic_shared").model
    every = {name for name, _ in model.named_parameters()}

    def held(name: str) -> set[str]:
        return {short(parameter) for parameter in members("frozen", name, model, ())}

    assert held("adapters") == {f"items.adapter.{m}.{part}" for m in ("text", "image") for part in ("weight", "bias")}
    assert held("ids") == {"items.bias.text", "items.bias.image"}
    assert held("missing") == {"items.missing.text", "items.missing.image"}
    assert held("fusion") == {"items.fusion"}
    assert held("items") == held("adapters") | held("ids") | held("missing") | held("fusion")
    assert held("all") == {short(name) for name in every}
    assert all(name.startswith("layers.0.ssd.") for name in held("ssd"))
    assert all(name.startswith("cross_layers.0.cross.") for name in held("cross"))
    assert {"time_input.norm.bias", "layers.0.ssd.time_gate.gate.bias"} <= held("time")
    assert len(held("filters")) == 12
    assert {f"{layer}.0.ffn.fc1.weight" for layer in ("layers", "cross_layers")} <= held("ffn")
    assert held("norms") == {
        *(f"{norm}.{part}" for norm in NORMS for part in ("weight", "bias")),
        "layers.0.ssd.norm_weight",
        "cross_layers.0.cross.norm_weight",
    }
    assert held("layers.0") == {short(name) for name in every if short(name).startswith("layers.0.")}
    assert held("layers.0.ssd.A_log") == {"layers.0.ssd.A_log"}
    assert {name.partition(".")[0] for name in held("all")} == set(PARTS["MMM4Rec"])
    # nothing but the items' side, blocks, time, filters, feed-forward layers and norms is there
    parts = ("items", "ssd", "cross", "time", "filters", "ffn", "norms")
    assert set().union(*(held(name) for name in parts)) == held("all")


NORMS = (
    *("input_norm.text", "input_norm.image", "time_input.norm", "layers.0.norm", "layers.0.ffn.norm"),
    *(
        "layers.0.ssd.time_gate.norm",
        "cross_layers.0.align_norm",
        "cross_layers.0.cross_norm",
        "cross_layers.0.ffn.norm",
    ),
)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("all", "transferred", "new")])
def test_what_is_frozen_stays_and_the_rest_moves(tmp_path: Path, name: str) -> None:
    every = moved(prepared(tmp_path, item_mm_fusion="dynamic_shared"))
    run = prepared(tmp_path, item_mm_fusion="dynamic_shared", frozen=[name])
    frozen = {short(parameter) for parameter in members("frozen", name, run.model, ())}
    found = moved(run)
    assert not found & frozen
    # the gradient of the gaps' norm is so small that a step may be lost in rounding
    assert (every - frozen) - found <= {"time_input.norm.weight", "time_input.norm.bias"}


@pytest.mark.parametrize(
    "changes", [{"loss_type": "in_batch"}, {"train_unit": "user", "modalities": ["text"]}], ids=str
)
def test_frozen_under_other_computations(tmp_path: Path, changes: dict[str, Any]) -> None:
    every = moved(prepared(tmp_path, **changes))
    for names in (["ssd", "ids"], ["adapters", "norms", "time"]):
        run = prepared(tmp_path, frozen=names, **changes)
        frozen = {short(p) for name in names for p in members("frozen", name, run.model, ())}
        assert moved(run) == every - frozen


def test_frozen_until_an_epoch(tmp_path: Path) -> None:
    every = moved(prepared(tmp_path))
    run = prepared(tmp_path, frozen="[ssd, cross_layers]", unfreeze_after=2, epochs=4)
    frozen = {name for name in weights(run) if name.startswith(("layers.0.ssd.", "cross_layers."))}
    assert not moved(run, 0) & frozen
    assert not moved(run, 1) & frozen
    assert moved(run, 2) & frozen == every & frozen
    resumed = prepared(tmp_path, frozen=["ssd"], unfreeze_after=2, epochs=4)
    assert "layers.0.ssd.in_proj.weight" in moved(resumed, 3)


def test_a_recorded_step_is_forgotten_where_more_parameters_move(tmp_path: Path) -> None:
    """A graph has no gradients of what was frozen when it was recorded, and would leave it where it is."""
    run = prepared(tmp_path, frozen=["ssd"], unfreeze_after=2, epochs=4)
    tell = run.trainer.training.at("unfreezing").epoch_begins
    for epoch, kept in ((0, True), (1, True), (2, False), (3, True)):
        run.trainer.graphed = recorded = object()
        tell(run.trainer.training, epoch)
        assert (run.trainer.graphed is recorded) == kept


def test_transferred_and_new(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    run = prepared(tmp_path, pretrained=path, frozen=["transferred"])
    assert moved(run) == {"items.bias.text", "items.bias.image"}
    run = prepared(tmp_path, pretrained=path, frozen=["new"])
    assert not moved(run) & {"items.bias.text", "items.bias.image"}


def test_rates(tmp_path: Path) -> None:
    """The rate of each parameter: the last name that holds it decides, and the schedule moves all alike."""
    changes = {"lr_schedule": "linear", "epochs": 2, "train_batch_size": 512}
    factors = {"transferred": 0.1, "ssd": 0.5, "layers.0.ssd.A_log": 2}
    run = prepared(tmp_path, pretrained=checkpoint(tmp_path), learning_rates=factors, **changes)
    names = {id(weight): short(name) for name, weight in run.model.named_parameters()}

    def rates() -> dict[str, float]:
        return {names[id(w)]: group["lr"] for group in run.trainer.optimizer.param_groups for w in group["params"]}

    before = rates()
    assert before.keys() == set(names.values())
    assert before["items.bias.text"] == pytest.approx(0.01)
    assert before["items.adapter.text.weight"] == pytest.approx(0.001)
    assert before["layers.0.ssd.in_proj.weight"] == before["layers.0.ssd.dt_bias"] == pytest.approx(0.005)
    assert before["layers.0.ssd.A_log"] == pytest.approx(0.02)
    decay = {
        names[id(w)]: group["weight_decay"] for group in run.trainer.optimizer.param_groups for w in group["params"]
    }
    assert (decay["layers.0.ssd.in_proj.weight"], decay["layers.0.ssd.dt_bias"]) == (0.01, 0.0)
    run.trainer._train_epoch(run.train, 0)
    after = rates()
    assert after["items.bias.text"] < before["items.bias.text"]
    for name, rate in before.items():
        assert after[name] / rate == pytest.approx(after["items.bias.text"] / before["items.bias.text"])


def test_rates_move_the_weights(tmp_path: Path) -> None:
    """Adam's first step is as long as the rate, whatever the gradient; row-wise steps of ID tables as well."""
    changes = {"train_batch_size": 512, "learner": "adam", "weight_decay": 0.0, "loss_type": "in_batch"}
    run = prepared(tmp_path, learning_rates={"ids": 0.1}, **changes)
    before = weights(run)
    run.trainer._train_epoch(run.train, 0)
    steps = {name: (weight - before[name]).abs().max().item() for name, weight in weights(run).items()}
    assert len(run.train) == 1
    assert steps["items.bias.text"] == pytest.approx(0.001, rel=1e-3)
    assert steps["items.adapter.text.weight"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"modalities": ["text"]}, {"ablation": "cross"}], ids=str)
def test_what_no_loss_depends_on_is_nothing_to_train(tmp_path: Path, changes: dict[str, Any]) -> None:
    net = prepared(tmp_path, is_modality_bias=False, **changes)
    net.model.calculate_loss(next(iter(net.train))).backward()
    named = [(short(name), weight) for name, weight in net.model.named_parameters()]
    used = [name for name, weight in named if weight.grad is not None]
    assert len(used) < len(named)
    with pytest.raises(UserError, match="leaves nothing to train"):
        prepared(tmp_path, is_modality_bias=False, frozen=used, epochs=1, **changes)
    prepared(tmp_path, is_modality_bias=False, frozen=used[1:], epochs=1, **changes)


def test_vectors_of_missing_pictures_are_something_to_train(tmp_path: Path) -> None:
    every = [short(name) for name, _ in prepared(tmp_path, missing_images=0.2).model.named_parameters()]
    rest = [name for name in every if not name.startswith("items.missing.")]
    assert prepared(tmp_path, frozen=rest, epochs=1)
    with pytest.raises(UserError, match="leaves nothing to train"):
        prepared(tmp_path, frozen=[*rest, "items.missing.image"], epochs=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frozen": ["adapter"]}, ["frozen: 'adapter' is no part", "did you mean 'adapters'", "ssd"]),
        ({"frozen": ["layers.1"]}, ["frozen: 'layers.1' is no part"]),
        ({"frozen": ["layers.0.ss"]}, ["frozen: 'layers.0.ss' is no part"]),
        ({"frozen": ["transferred"]}, ["frozen: 'transferred' needs a checkpoint", "set pretrained"]),
        ({"frozen": ["all"]}, ["frozen=['all'] leaves nothing to train"]),
        ({"frozen": ["all"], "unfreeze_after": 1}, ["frozen=['all'] leaves nothing to train"]),
        ({"frozen": 3}, ["frozen=3: it must be a list of names"]),
        ({"frozen": "[ssd"}, ["frozen='[ssd': it must be a list of names"]),
        ({"frozen": ["sdd"]}, ["frozen: 'sdd' is no part of MMM4Rec (known: adapters,"]),
        ({"frozen": "[ssd.0]"}, ["frozen: 'ssd.0' is no part"]),
        ({"learning_rates": {"id": 0.5}}, ["learning_rates: 'id' is no part", "did you mean 'ids'"]),
        ({"learning_rates": {"new": 0.5}}, ["learning_rates: 'new' needs a checkpoint"]),
        (
            {"learning_rates": {"ids": 0}},
            ["learning_rates={'ids': 0}: it must be a mapping such as {'transferred': 0.1}"],
        ),
        ({"learning_rates": 0.5}, ["learning_rates=0.5: it must be"]),
        ({"unfreeze_after": 1}, ["unfreeze_after=1: it needs frozen"]),
        ({"unfreeze_after": -1, "frozen": ["ids"]}, ["unfreeze_after=-1: it must be a whole number, at least 0"]),
        ({"pretrained_layers": 1}, ["pretrained_layers=1: it needs pretrained"]),
        ({"pretrained_layers": 0}, ["pretrained_layers=0: it must be a whole number, at least 1"]),
        ({"pretrained": 3}, ["pretrained=3: it must be the path of a checkpoint"]),
    ],
    ids=str,
)
def test_names_and_values_are_checked(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)
